package scheduler

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bulkhead/cluster"
)

func TestScale(t *testing.T) {
	r := cluster.Replicas{Min: 0, Max: 5, Concurrency: 20}
	start := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		sentence     string
		lately       string // requests in flight for so many seconds: "40*60 0*10"
		has, serving int
		replicas     cluster.Replicas
		want         int
		why          string
	}{
		{"nothing to do keeps one", "0*60", 1, 1, r, 1, ""},
		{"as much as one takes", "20*60", 1, 1, r, 1, ""},
		{"a little more calls for another", "21*60", 1, 1, r, 2, "2 instances: 21 in flight on average within 1m, 20 each"},
		{"41 call for three", "41*60", 2, 2, r, 3, "3 instances: 41 in flight"},
		{"a short peak is averaged away", "5*58 39*2", 1, 1, r, 1, ""},
		{"a burst counts at once", "0*54 80*6", 1, 1, r, 4, "4 instances: 66.7 in flight on average within 6s, 20 each"},
		{"of a tenant that just woke too", "60*2", 1, 1, r, 3, "within 6s"},
		{"twice what all take is a burst, less is none", "0*54 79*6", 2, 2, r, 2, ""},
		{"never more than max", "1000*60", 5, 5, r, 5, ""},
		{"a burst ends at max too", "0*54 1000*6", 1, 1, r, 5, "5 instances"},
		{"after a burst nothing goes", "0*10 200*6 0*40", 5, 5, r, 5, ""},
		{"less to do takes a stable window to be believed", "50*20 10*40", 3, 3, r, 3, ""},
		{"then one goes, not two", "0*119", 3, 3, r, 2, "2 instances: 0 in flight on average within 1m"},
		{"never fewer than min", "0*300", 3, 3, cluster.Replicas{Min: 3, Max: 5, Concurrency: 20}, 3, ""},
		{"min is more than there are", "0*1", 1, 1, cluster.Replicas{Min: 2, Max: 5, Concurrency: 20}, 2, "2 instances"},
		{"a burst counts those that serve beyond what was wanted", "0*54 200*6", 1, 4, r, 5, ""},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			d, now, has, said := &demand{}, start, c.has, ""
			for _, part := range strings.Fields(c.lately) {
				var inFlight float64
				var seconds int
				if _, err := fmt.Sscanf(part, "%g*%d", &inFlight, &seconds); err != nil {
					t.Fatal(err)
				}
				for range seconds {
					now = now.Add(time.Second)
					d.add(now, inFlight)
					if want, why := d.scale(now, has, c.serving, c.replicas); want != has {
						has, said = want, why
					} else if why != "" {
						t.Errorf("nothing changes, because %s", why)
					}
				}
			}
			if has != c.want || !strings.Contains(said, c.why) {
				t.Errorf("%d instances (%q), want %d (%q)", has, said, c.want, c.why)
			}
		})
	}
}

// TestScalesWithLoad lets a minute-long rush of requests come and go, with
// agents that report every two seconds and start an instance in three.
func TestScalesWithLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.now = time.Now()
		for _, h := range []string{"h1", "h2"} {
			f.host(testHost(h, ""))
		}
		f.tenant("acme", `"replicas":{"max":4,"concurrency":10}`)
		f.settle()
		f.ready()
		most, below, began := 0, 0, time.Now()
		for second := 1; time.Since(began) < 10*time.Minute; second++ {
			time.Sleep(time.Second)
			f.now = time.Now()
			inFlight := 0.0
			if second > 30 && second <= 90 {
				inFlight = 35
			}
			if second%3 == 0 {
				f.allServe()
			}
			if second%2 == 0 {
				f.report("acme", inFlight)
			}
			f.settle()
			n := len(f.model.tenants["acme"].placed)
			if most = max(most, n); second > 45 && second <= 90 && n < 4 {
				below++
			}
			if second == 60 {
				f.model = newSnapshot() // another leader takes over in the middle
				f.relist()
			}
			if second == 70 {
				f.says("acme", "placed")
				if s := f.status("acme"); s.Wanted != 4 || !strings.Contains(s.Scaled, "4 instances: 35 in flight") {
					t.Errorf("its status: %d, %q", s.Wanted, s.Scaled)
				}
			}
		}
		if most != 4 || below > 0 {
			t.Errorf("%d instances at most, for %d s too few", most, below)
		}
		f.is("after the rush", fmt.Sprint(len(f.model.tenants["acme"].placed)), "1")
		if s := f.status("acme"); s.Wanted != 0 || f.model.active["acme"] || f.model.tenants["acme"].demand != nil {
			t.Errorf("it is not at rest: %+v", s)
		}
	})
}

// report has the hosts report a tenant's requests, evenly over what serves.
func (f *fixture) report(tenant string, inFlight float64) {
	t := f.model.tenants[tenant]
	loads, serving := map[string]map[string]float64{}, 0
	for _, p := range t.placed {
		if t.ready(p) {
			serving++
		}
	}
	for _, p := range t.placed {
		if loads[p.host] == nil {
			loads[p.host] = map[string]float64{}
		}
		if t.ready(p) {
			loads[p.host][p.Instance] = inFlight / float64(serving)
		}
	}
	for _, host := range sorted(f.model.hosts) {
		f.put(cluster.LoadKey(host), cluster.Load{Instances: loads[host]})
	}
}

func TestWhoIsBusyStays(t *testing.T) {
	f := newFixture(t)
	f.host(testHost("h1", ""))
	f.tenant("acme", `"replicas":{"min":3,"concurrency":10}`)
	f.settle()
	f.ready()
	f.put(cluster.LoadKey("h1"), cluster.Load{Instances: map[string]float64{"acme.0": 1, "acme.1": 9, "acme.2": 8}})
	f.tenant("acme", `"replicas":{"min":2,"concurrency":10}`)
	f.settle()
	f.wait(leaveFor)
	f.is("the one with the least to do goes", f.where("acme"), "acme.1@h1 acme.2@h1")
	f.tenant("acme", `"replicas":{"min":1,"max":1,"concurrency":10}`)
	f.settle()
	f.wait(leaveFor)
	f.is("none whose requests the other can't take", f.where("acme"), "acme.1@h1 acme.2@h1")
	f.put(cluster.LoadKey("h1"), cluster.Load{})
	f.wait(leaveFor)
	f.wait(leaveFor)
	f.is("until they are done", fmt.Sprint(len(f.model.tenants["acme"].placed)), "1")
}
