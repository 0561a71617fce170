package scheduler

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"bulkhead/cluster"
)

// TestBalance places a realistic mix on hosts of three sizes and looks at how
// evenly they are used: looking at a few hosts must be nearly as good as
// looking at all.
func TestBalance(t *testing.T) {
	f, r := newFixture(t), rand.New(rand.NewPCG(1, 1))
	for i := range 120 {
		h := testHost(fmt.Sprintf("h%d", i), string("abc"[i%3]))
		size := []int{1, 2, 4}[i%3]
		h.Capacity = cluster.Resources{Memory: cluster.Bytes(size) * 8 * cluster.GiB, CPU: float64(size) * 16, Pids: size * 8192}
		f.host(h)
	}
	for i := range 4000 {
		memory, cpu := []int{128, 256, 512}[r.IntN(3)], []float64{0.1, 0.25, 0.5}[r.IntN(3)]
		more := fmt.Sprintf(`"resources":{"memory":"%dMiB","cpu":%v}`, memory, cpu)
		if i%4 == 0 {
			more += `,"replicas":{"min":2},"placement":{"spread":"zone"}`
		}
		f.tenant(fmt.Sprintf("t%d", i), more)
	}
	for len(f.model.dirty) > 0 {
		for _, group := range f.model.plan(f.now, grace, 1000) {
			f.apply(group...)
		}
	}
	if n := len(f.model.waiting); n > 0 {
		t.Fatalf("%d wait", n)
	}
	low, high := 1.0, 0.0
	for _, h := range f.model.hosts {
		share := max(float64(h.used.Memory)/float64(h.presence.Capacity.Memory), h.used.CPU/h.presence.Capacity.CPU)
		low, high = min(low, share), max(high, share)
	}
	t.Logf("hosts are used from %.2f to %.2f", low, high)
	if high-low > 0.25 {
		t.Errorf("hosts are used from %.2f to %.2f", low, high)
	}
	for i := 0; i < 4000; i += 4 {
		zones := map[string]bool{}
		for _, p := range f.model.tenants[fmt.Sprintf("t%d", i)].placed {
			zones[f.model.hosts[p.host].presence.Labels["zone"]] = true
		}
		if len(zones) != 2 {
			t.Fatalf("t%d is in the zones %v", i, zones)
		}
	}
}
