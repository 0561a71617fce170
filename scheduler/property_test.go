package scheduler

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"bulkhead/cluster"
)

// TestRandomLives lets clusters live through random events and checks after
// each what must always hold.
func TestRandomLives(t *testing.T) {
	const steps = 200
	lives := 60
	if testing.Short() {
		lives = 10
	}
	seeds := []int{75, 95, 208, 522} // these found something once
	for life := range lives {
		seeds = append(seeds, life)
	}
	for _, life := range seeds {
		r := rand.New(rand.NewPCG(uint64(life), 1))
		f := newFixture(t)
		for step := range steps {
			before := f.readyOnes()
			touched, lost := f.something(r)
			for one := range before {
				if strings.HasSuffix(one, "@"+lost) {
					delete(before, one)
				}
			}
			f.settle()
			f.invariants()
			f.keptReady(before, touched)
			if t.Failed() {
				t.Fatalf("in life %d, step %d (touched %q)", life, step, touched)
			}
		}
		f.wait(leaveFor)
		if f.unsettled() {
			continue
		}
		f.wrote()
		f.relist()
		f.settle()
		for _, key := range f.wrote() {
			t.Fatalf("life %d: a fresh list made us write %s", life, key)
		}
	}
}

// unsettled says whether any instance waits for a host or leaves one: what
// their statuses say of the room on hosts ages.
func (f *fixture) unsettled() bool {
	for name := range f.model.tenants {
		if text := fmt.Sprint(f.status(name).Reasons); strings.Contains(text, " waits: ") || strings.Contains(text, " leaves ") {
			return true
		}
	}
	return false
}

// something happens; it returns the tenant it happened to, or the host that
// was lost.
func (f *fixture) something(r *rand.Rand) (touched, lost string) {
	tenant, host := fmt.Sprintf("t%d", r.IntN(8)), fmt.Sprintf("h%d", r.IntN(5))
	zone := string("ab"[r.IntN(2)])
	switch r.IntN(17) {
	case 0, 1, 2:
		f.tenant(tenant, []string{
			"", `"replicas":{"min":3}`, `"resources":{"memory":"512MiB"}`, `"resources":{"cpu":2}`, `"resources":{"pids":500}`,
			`"placement":{"labels":{"zone":"` + zone + `"}}`, `"replicas":{"min":2},"placement":{"spread":"zone"}`,
		}[r.IntN(7)])
	case 3:
		f.put(cluster.TenantKey(tenant), `{"broken`)
	case 4:
		f.del(cluster.TenantKey(tenant))
	case 5, 6:
		h := testHost(host, zone)
		h.Image = "sha256:" + zone
		f.host(h)
		return "", ""
	case 7:
		f.lose(host)
		return "", host
	case 8:
		f.put(cluster.CordonKey(host), "because")
		return "", ""
	case 9:
		f.del(cluster.CordonKey(host))
		return "", ""
	case 10:
		f.ready()
		return "", ""
	case 11:
		f.put(cluster.DrainKey(host), "patching")
		return "", ""
	case 12:
		f.del(cluster.DrainKey(host))
		return "", ""
	case 13:
		f.put(cluster.FunctionKey(tenant, string("fg"[r.IntN(2)])), []string{`{"code":"1"}`, `{"code":2}`, `{"code":"3"}`}[r.IntN(3)])
		return "", ""
	case 14:
		f.del(cluster.FunctionKey(tenant, string("fg"[r.IntN(2)])))
		return "", ""
	case 15:
		if f.model.tenants[tenant] != nil {
			f.report(tenant, float64(r.IntN(200)))
		}
		return "", ""
	default:
		f.wait(time.Duration(r.IntN(40)) * time.Second)
		return "", ""
	}
	return tenant, ""
}

// readyOnes are the instances that requests reach, as tenant.n@host.
func (f *fixture) readyOnes() map[string]bool {
	all := map[string]bool{}
	for key, value := range f.keys {
		n, ok := cluster.SplitKey(key, cluster.InstancesPrefix, 2)
		var in cluster.Instance
		if ok && json.Unmarshal([]byte(value), &in) == nil && in.Phase == cluster.Ready && f.keys[cluster.PlacementKey(n[0], n[1])] != "" && in.Placement >= f.created[cluster.PlacementKey(n[0], n[1])] {
			all[n[1]+"@"+n[0]] = true
		}
	}
	return all
}

// keptReady: no tenant that nobody touched has fewer ready instances than it
// had, or than it wants, whichever is less.
func (f *fixture) keptReady(before map[string]bool, touched string) {
	f.t.Helper()
	count := func(ones map[string]bool, tenant string) (n int) {
		for one := range ones {
			if strings.HasPrefix(one, tenant+".") {
				n++
			}
		}
		return n
	}
	after := f.readyOnes()
	for name, t := range f.model.tenants {
		if name == touched || t.observed == nil || t.applied == nil {
			continue
		}
		want := max(t.applied.spec.Replicas.Min, 1)
		if had, has := count(before, name), count(after, name); has < min(had, want) {
			f.t.Errorf("%s had %d ready instances, has %d, wants %d", name, had, has, want)
		}
	}
}

func (f *fixture) invariants() {
	f.t.Helper()
	used, names := map[string]cluster.Resources{}, map[string]string{}
	units := map[string]bool{}
	for key, value := range f.keys {
		n, ok := cluster.SplitKey(key, cluster.PlacementsPrefix, 2)
		if !ok {
			continue
		}
		var p cluster.Placement
		if err := json.Unmarshal([]byte(value), &p); err != nil {
			f.t.Fatal(err)
		}
		used[n[0]] = add(used[n[0]], reserved(p.Resources, p.Sleep), 1)
		if other := names[p.Instance]; other != "" {
			f.t.Errorf("%s is on %s and %s", p.Instance, other, n[0])
		}
		names[p.Instance] = n[0]
		for _, unit := range instanceUnits(p.Instance) {
			units[cluster.UnitKey(n[0], unit)] = true
		}
		if f.model.tenants[p.Tenant] == nil {
			f.t.Errorf("%s has no tenant", key)
		}
	}
	for name, u := range used {
		h := f.model.hosts[name]
		if h.used.Memory != u.Memory || math.Abs(h.used.CPU-u.CPU) > 1e-6 || h.used.Pids != u.Pids {
			f.t.Errorf("%s: the model counts %+v, there is %+v", name, h.used, u)
		}
		if h.presence == nil {
			continue
		}
		if c := h.presence.Capacity; u.Memory > c.Memory || u.CPU > c.CPU+1e-6 || u.Pids > c.Pids {
			f.t.Errorf("%s holds %+v, more than %+v", name, u, c)
		}
	}
	for key := range f.keys {
		if strings.HasPrefix(key, cluster.UnitsPrefix) && !units[key] {
			f.t.Errorf("%s belongs to no placement", key)
		}
		if n, ok := cluster.SplitKey(key, cluster.RoutesPrefix, 2); ok && names[n[1]] == "" {
			f.t.Errorf("%s belongs to no placement", key)
		}
	}
	for instance, host := range names {
		if f.keys[cluster.RouteKey(host, instance)] == "" {
			f.t.Errorf("%s on %s has no route", instance, host)
		}
		tenant, _, _ := cluster.ParseInstance(instance)
		f.delivered(host, tenant)
	}
	for key := range units {
		if f.keys[key] == "" {
			f.t.Errorf("%s is missing", key)
		}
	}
}
