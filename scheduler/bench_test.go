package scheduler

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// The size that the targets name.
const (
	benchHosts   = 5_000
	benchTenants = 100_000
)

// benchList is what a new leader lists: hosts in ten zones, and tenants of
// which a third spread over zones and a third want one zone.
func benchList() etcd.Batch {
	b := etcd.Batch{Snapshot: true, Revision: 1}
	add := func(key, value string) {
		b.Events = append(b.Events, etcd.Event{Key: key, Value: []byte(value), Revision: 1})
	}
	for i := range benchTenants {
		more := []string{"", `"placement":{"spread":"zone"}`, fmt.Sprintf(`"placement":{"labels":{"zone":"z%d"}}`, i%10)}[i%3]
		add(cluster.TenantKey(fmt.Sprintf("t%d", i)), specJSON(more))
	}
	for i := range benchHosts {
		h := testHost(fmt.Sprintf("h%04d", i), fmt.Sprintf("z%d", i%10))
		h.Capacity = cluster.Resources{Memory: 4 * cluster.GiB, CPU: 16, Pids: 4096}
		add(cluster.HostKey(h.Name), marshal(h))
	}
	return b
}

// echo gives the model back what it had written, as the watch does.
func echo(s *snapshot, groups [][]etcd.Op, now time.Time) *snapshot {
	b := etcd.Batch{Revision: s.revision + 1}
	for _, group := range groups {
		for _, op := range group {
			b.Events = append(b.Events, etcd.Event{Key: op.Key, Value: op.Value, Revision: b.Revision, Deleted: op.Delete})
		}
	}
	return s.apply(b, now)
}

// BenchmarkFromNothing plans everything as a new leader does, in rounds:
// decoding, placing, rendering units, statuses. Writing is not in it.
func BenchmarkFromNothing(b *testing.B) {
	list, now := benchList(), time.Now()
	var s *snapshot
	spent := -cpuTime()
	for b.Loop() {
		s = newSnapshot().apply(list, now)
		groups := 0
		for len(s.dirty) > 0 {
			groups += len(s.plan(now, grace, atOnce))
		}
		if groups != 3*benchTenants || len(s.waiting) > 0 { // placement, manifest, and spec with status
			b.Fatalf("%d groups, %d waiting", groups, len(s.waiting))
		}
	}
	b.ReportMetric((spent+cpuTime()).Seconds()/float64(b.N), "cpu-s/plan")
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/plan")
	report(b, s)
}

// cpuTime is what this process has used of all cores together, which other
// processes disturb less than they do the time that has passed.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// report says how the hosts are used.
func report(b *testing.B, s *snapshot) {
	low, high, mean := 1.0, 0.0, 0.0
	for _, h := range s.hosts {
		share := h.share()
		low, high, mean = min(low, share), max(high, share), mean+share/float64(len(s.hosts))
	}
	b.ReportMetric(mean, "mean-use")
	b.ReportMetric(low, "least-use")
	b.ReportMetric(high, "most-use")
}

// BenchmarkTick is a second of a cluster in which every tenth tenant has
// something to do, on the way to which all hosts have reported their load.
func BenchmarkTick(b *testing.B) {
	now := time.Now()
	s := newSnapshot().apply(benchList(), now)
	for len(s.dirty) > 0 {
		s = echo(s, s.plan(now, grace, benchTenants), now)
	}
	for name, h := range s.hosts {
		load := cluster.Load{Instances: map[string]float64{}}
		for instance := range h.placed {
			if len(load.Instances) < len(h.placed)/10 {
				load.Instances[instance] = 1
			}
		}
		s.seeLoad(name, etcd.Event{Value: []byte(marshal(load))}, now)
	}
	for b.Loop() {
		now = now.Add(time.Second)
		s.tick(now, grace)
	}
	b.ReportMetric(float64(len(s.active)), "active")
}

// large adds a host that only memory fills.
func large(f *fixture, name string) {
	h := sized(name, "", "8GiB", 1000)
	h.Capacity.Pids = 1 << 20
	f.host(h)
}

// BenchmarkGrow adds a third of hosts to a full cluster and lets it even out;
// agents start what comes to them at once.
func BenchmarkGrow(b *testing.B) {
	const hosts, tenants = 30, 1200
	moves := 0
	var f *fixture
	for b.Loop() {
		f = newFixture(b)
		for i := range hosts {
			large(f, fmt.Sprintf("h%d", i))
		}
		for i := range tenants {
			f.tenant(fmt.Sprintf("t%d", i), fmt.Sprintf(`"resources":{"memory":"%dMiB","cpu":0.05,"pids":32}`, []int{64, 128, 384}[i%3]))
		}
		f.settle()
		f.allServe()
		for i := range hosts / 3 {
			large(f, fmt.Sprintf("n%d", i))
		}
		f.settle()
		moves = 0
		for quiet := 0; quiet < 3; quiet++ {
			began := len(f.model.moves)
			f.wait(evenEvery)
			if n := len(f.model.moves); n > began {
				moves, quiet = moves+n-began, 0
			}
			f.allServe()
			f.wait(leaveFor)
			f.model.endMoves(f.now)
		}
	}
	b.ReportMetric(float64(moves), "moves")
	report(b, f.model)
}

// BenchmarkOneChange is one tenant's new spec in a full cluster: decoding,
// planning, rendering and taking the echo of what was written.
func BenchmarkOneChange(b *testing.B) {
	now := time.Now()
	s := newSnapshot().apply(benchList(), now)
	for len(s.dirty) > 0 {
		s = echo(s, s.plan(now, grace, benchTenants), now)
	}
	i := 0
	for b.Loop() {
		i++
		more := fmt.Sprintf(`"resources":{"memory":"%dMiB"}`, 128+i%2)
		s = s.apply(etcd.Batch{Revision: s.revision + 1, Events: []etcd.Event{{
			Key: cluster.TenantKey(fmt.Sprintf("t%d", i%benchTenants)), Value: []byte(specJSON(more)), Revision: s.revision + 1,
		}}}, now)
		groups := s.plan(now, grace, benchTenants)
		if len(groups) == 0 {
			b.Fatal("nothing changed")
		}
		s = echo(s, groups, now)
		s.plan(now, grace, benchTenants)
	}
}

// BenchmarkNewTenant is a tenant that comes, and goes again, in a full
// cluster.
func BenchmarkNewTenant(b *testing.B) {
	now := time.Now()
	s := newSnapshot().apply(benchList(), now)
	for len(s.dirty) > 0 {
		s = echo(s, s.plan(now, grace, benchTenants), now)
	}
	for b.Loop() {
		for _, e := range []etcd.Event{
			{Key: cluster.TenantKey("new"), Value: []byte(specJSON("")), Revision: 2},
			{Key: cluster.TenantKey("new"), Deleted: true},
		} {
			s = s.apply(etcd.Batch{Revision: s.revision + 1, Events: []etcd.Event{e}}, now)
			s = echo(s, s.plan(now, grace, benchTenants), now)
			s.plan(now, grace, benchTenants)
			s.brake.removed = nil
		}
	}
}

// BenchmarkFullCluster frees one place where ten thousand tenants wait for
// one.
func BenchmarkFullCluster(b *testing.B) {
	now := time.Now()
	list := benchList()
	for i := range 10_000 {
		list.Events = append(list.Events, etcd.Event{
			Key: cluster.TenantKey(fmt.Sprintf("w%d", i)), Value: []byte(specJSON(`"resources":{"memory":"1GiB","cpu":16}`)), Revision: 1,
		})
	}
	s := newSnapshot().apply(list, now)
	for len(s.dirty) > 0 {
		s = echo(s, s.plan(now, grace, benchTenants), now)
	}
	for i := 0; b.Loop(); i++ {
		name := fmt.Sprintf("t%d", i)
		s = s.apply(etcd.Batch{Revision: s.revision + 1, Events: []etcd.Event{
			{Key: cluster.TenantKey(name), Deleted: true}, {Key: cluster.AppliedKey(name), Deleted: true},
		}}, now)
		for len(s.dirty) > 0 {
			s = echo(s, s.plan(now, grace, benchTenants), now)
		}
	}
	if len(s.waiting) < 5_000 {
		b.Fatalf("only %d wait", len(s.waiting))
	}
}
