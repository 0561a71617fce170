package rollout

import (
	"fmt"
	"slices"
	"testing"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

func (f *fleet) ask(host, group string, wanted bool) {
	f.put(cluster.AskKey(host), cluster.Ask{Group: group, ID: "i", Wanted: wanted, Time: f.now})
}

func TestAHostThatAsksHasItsTurnUntilItIsWell(t *testing.T) {
	for _, restarts := range []bool{false, true} {
		f := newFleet(t, "h1", "h2")
		f.restarts, f.hosts["h1"].client = restarts, true
		f.ask("h1", "workers", true)
		f.until("it has its turn", func() bool { return f.step("h1") == cluster.StepPatch })
		if o, _ := read[cluster.Order](f, cluster.OrderKey("h1")); !o.Granted || !o.Leave || o.Action != "" {
			t.Errorf("%+v", o)
		}
		if c, _ := read[cluster.Cycle](f, cluster.CycleKey("h1")); c.Group != "workers" || c.For != cluster.FleetLock || len(f.hosts["h1"].left) > 0 {
			t.Errorf("%+v", c)
		}
		f.until("it is back", func() bool { return f.step("h1") == cluster.StepSteady })
		f.pass(100)
		if f.step("h1") != cluster.StepSteady {
			t.Error("its turn ended before it gave it back")
		}
		f.ask("h1", "workers", false)
		f.until("its turn ends", func() bool { return f.step("h1") == "" })
		f.traced(traceOf(cluster.RolloutOS, "h1")...)
		f.clean()
	}
}

func TestATurnGivenBackTooEarlyEndsWhenTheHostIsWell(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	f.hosts["h1"].client = true
	f.ask("h1", "", true)
	f.until("it boots", func() bool { return f.step("h1") == cluster.StepReturn })
	f.ask("h1", "", false)
	f.until("it is back", func() bool { return f.hosts["h1"].present })
	f.pass(5)
	if f.step("h1") == "" {
		t.Error("it was believed to be well at once")
	}
	f.pass(10)
	f.clean()
}

func TestATurnThatIsNotWantedAnyMore(t *testing.T) {
	for _, at := range steps[cluster.RolloutOS][:4] {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			f := newFleet(t, "h1", "h2")
			f.ask("h1", "", true)
			f.until("h1 is at "+string(at), func() bool { return slices.Contains(f.trace, "h1 "+string(at)) })
			f.ask("h1", "", false)
			f.pass(60)
			f.clean()
			if f.hosts["h1"].boot != 0 {
				t.Error("it booted")
			}
		})
	}
}

func TestGroupsAndMembersTakeTurns(t *testing.T) {
	f := newFleet(t, "h1", "h2", "h3", "h4")
	f.done = (*fleet).inTurns
	for name, group := range map[string]string{"h1": "a", "h2": "a", "h3": "b", "h4": "c"} {
		f.hosts[name].client = true
		f.hosts[name].member = name > "h2"
		f.ask(name, group, true)
	}
	f.put(cluster.RolloutKey("r1"), text(cluster.RolloutImage, `,"pace":{"at_once":4}`))
	f.until("all have booted and been patched", func() bool {
		all := true
		for name, h := range f.hosts {
			if h.boot == 1 && f.step(name) == cluster.StepSteady {
				f.ask(name, map[string]string{"h1": "a", "h2": "a", "h3": "b", "h4": "c"}[name], false)
			}
			all = all && h.boot == 1 && h.image == fresh
		}
		return all
	})
	f.phase("r1", cluster.RolloutDone)
	f.clean()
}

func TestALeaderThatNeverSawAMemberKnowsThatItIsInItsCycle(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	f.hosts["h1"].member, f.hosts["h2"].member = true, true
	f.ask("h1", "a", true)
	f.until("it has its turn", func() bool { return f.step("h1") == cluster.StepPatch })
	h := f.hosts["h1"]
	h.present, h.member = false, false // as far as a new leader knows
	f.sights = NewSights()
	f.ask("h2", "b", true)
	f.pass(60)
	if f.step("h2") != "" {
		t.Error("two members are in their cycles")
	}
}

func TestAnOperatorsDrainStays(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	f.hosts["h1"].client = true
	f.put(cluster.DrainKey("h1"), "mine")
	f.ask("h1", "", true)
	f.until("it is back", func() bool { return f.step("h1") == cluster.StepSteady })
	f.ask("h1", "", false)
	f.pass(30)
	if got := f.keys[cluster.DrainKey("h1")].value; got != "mine" || f.step("h1") != "" {
		t.Errorf("the drain says %q", got)
	}
}

func TestALockHeldForLongIsToldOnce(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	f.ask("h1", "", true)
	f.pass(2 * 3600)
	c, _ := read[cluster.Cycle](f, cluster.CycleKey("h1"))
	if c.Alert != "h1 has held the turn of group default for more than 1h" || len(f.alerts) != 1 {
		t.Errorf("%+v %q", c, f.alerts)
	}
	f.apply(etcd.Delete(cluster.CycleKey("h1")), etcd.Delete(cluster.AskKey("h1"))) // by force
	f.pass(2)
	f.clean()
}

func TestAHostThatDoesNotComeBackFromItsTurn(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	f.ask("h1", "", true)
	f.ask("h2", "", true)
	f.until("it has its turn", func() bool { return f.step("h1") == cluster.StepPatch })
	f.hosts["h1"].present = false
	f.pass(20 * 60)
	if c, _ := read[cluster.Cycle](f, cluster.CycleKey("h1")); c.Stopped != "h1 has not come back within 15m" || f.step("h2") != "" {
		t.Errorf("%+v, h2 is at %q", c, f.step("h2"))
	}
	f.hosts["h1"].present, f.hosts["h1"].back = true, f.now
	f.hosts["h1"].boot++
	f.ask("h1", "", false)
	f.until("it is the other's turn", func() bool { return f.step("h2") == cluster.StepPatch })
}

func TestAHostThatVanishesBeforeItHasItsTurnStillGetsIt(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	f.hosts["h1"].deaf = true
	f.hosts["h1"].left = nil
	f.ask("h1", "", true)
	f.until("it is to leave", func() bool { return f.step("h1") == cluster.StepLeave })
	f.hosts["h1"].present = false
	f.pass(20 * 60)
	h := f.hosts["h1"]
	h.present, h.back, h.deaf = true, f.now, false
	h.boot++
	f.until("it has its turn", func() bool { return f.step("h1") == cluster.StepPatch })
}

func TestADrainThatIsLiftedIsPutBack(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	f.hosts["h1"].deaf = true
	f.put(cluster.RolloutKey("r1"), text(cluster.RolloutOS, ""))
	f.until("it drains", func() bool { return f.step("h1") == cluster.StepDrain })
	f.apply(etcd.Delete(cluster.DrainKey("h1")))
	f.pass(2)
	if f.keys[cluster.DrainKey("h1")].created == 0 {
		t.Error("it is not drained any more, and will boot")
	}
	h := f.hosts["h1"]
	left := h.left
	h.left, h.running = nil, 0
	f.until("it is to leave", func() bool { return f.step("h1") == cluster.StepLeave })
	h.left = left
	f.until("it is drained again", func() bool { return f.step("h1") == cluster.StepDrain })
	h.deaf = false
	f.phase("r1", cluster.RolloutDone)
}

func TestAnOnlyHostIsNotLeft(t *testing.T) {
	f := newFleet(t, "h1")
	f.ask("h1", "", true)
	f.pass(100)
	f.clean()
}
