package rollout

import (
	"maps"
	"testing"

	"bulkhead/cluster"
)

// fail has requests fail at a host.
func (f *fleet) fail(host string, n int64) {
	h := f.hosts[host]
	if h.failed != nil {
		n += *h.failed
	}
	h.failed = &n
}

func (f *fleet) failed(id string, want map[string]int64) {
	f.t.Helper()
	got := map[string]int64{}
	for host, n := range f.status(id).Failed {
		got[host] = n.Requests
	}
	if !maps.Equal(got, want) {
		f.t.Errorf("rollout %s knows of %v failed requests, want %v", id, got, want)
	}
}

func TestRequestsThatFailAreCountedFromTheRolloutsStartToItsEnd(t *testing.T) {
	f := newFleet(t, "h1", "h2", "h3", "h4")
	f.fail("h1", 17)
	f.fail("h2", 0)
	f.fail("h4", 5) // h3 counts nothing
	f.put(cluster.RolloutKey("r1"), `{"kind":"image","image":"`+fresh+`","hosts":["h1","h2"]}`)
	f.pass(1)
	f.failed("r1", map[string]int64{"h1": 0, "h2": 0, "h4": 0})
	f.fail("h1", 2)
	f.fail("h4", 1) // which the rollout is not for
	f.fail("h3", 9) // nobody knows from where on
	f.pass(10)
	f.failed("r1", map[string]int64{"h1": 2, "h2": 0, "h4": 1})
	f.hosts["h1"].failed = nil
	f.fail("h1", 3) // it has begun anew
	f.phase("r1", cluster.RolloutDone)
	f.failed("r1", map[string]int64{"h1": 5, "h2": 0, "h4": 1})

	f.fail("h1", 100)
	f.pass(60)
	f.failed("r1", map[string]int64{"h1": 5, "h2": 0, "h4": 1})
	f.put(cluster.RolloutKey("r1"), `{"kind":"image","image":"`+fresh+`","hosts":["h1","h2"],"undo":true}`)
	f.pass(1)
	f.fail("h2", 4)
	f.phase("r1", cluster.RolloutUndone)
	f.failed("r1", map[string]int64{"h1": 5, "h2": 4, "h4": 1})
}

func TestACountIsKeptWhileItsHostIsAway(t *testing.T) {
	for _, restarts := range []bool{false, true} {
		f := newFleet(t, "h1", "h2")
		f.restarts = restarts
		f.fail("h1", 0)
		f.fail("h2", 0)
		f.put(cluster.RolloutKey("r1"), text(cluster.RolloutOS, ""))
		f.hosts["h1"].stuck = true
		f.until("h1 is drained", func() bool { return f.step("h1") == cluster.StepDrain })
		f.fail("h1", 3)
		f.pass(10)
		f.hosts["h1"].stuck = false
		f.until("h1 is away", func() bool { return !f.hosts["h1"].present })
		f.failed("r1", map[string]int64{"h1": 3, "h2": 0})
		f.fail("h1", 1)
		f.phase("r1", cluster.RolloutDone)
		f.failed("r1", map[string]int64{"h1": 4, "h2": 0})
	}
}

// A proxy that fails requests all the time has the status written now and then,
// and no more once the rollout has ended.
func TestCountsAloneAreWrittenNowAndThen(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	f.fail("h2", 0)
	f.put(cluster.RolloutKey("r1"), `{"kind":"os","hosts":["h1"]}`)
	f.pass(1)
	f.put(cluster.RolloutKey("r1"), `{"kind":"os","hosts":["h1"],"paused":true}`)
	f.until("it rests", func() bool { return f.step("h1") == "" })
	f.pass(10)
	writes := func(seconds int) (n int) {
		for range seconds {
			before := f.keys[cluster.RolloutStatusKey("r1")].modified
			f.fail("h2", 1)
			f.pass(1)
			if f.keys[cluster.RolloutStatusKey("r1")].modified != before {
				n++
			}
		}
		return n
	}
	if n := writes(60); n < 10 || n > 13 {
		t.Errorf("within a minute the status was written %d times, want every 5 s", n)
	}
	f.put(cluster.RolloutKey("r1"), `{"kind":"os","hosts":["h1"],"aborted":true}`)
	f.phase("r1", cluster.RolloutAborted)
	f.pass(1)
	if n := writes(60); n > 0 {
		t.Errorf("after its end the status was written %d times", n)
	}
}
