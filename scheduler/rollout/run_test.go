package rollout

import (
	"slices"
	"strings"
	"testing"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

func (f *fleet) says(id, want string) {
	f.t.Helper()
	if st := f.status(id); !strings.Contains(st.Phase+": "+st.Reason, want) {
		f.t.Errorf("rollout %s says %q, want %q", id, st.Phase+": "+st.Reason, want)
	}
}

func TestWhatCannotBeginSaysWhy(t *testing.T) {
	for _, c := range []struct {
		sentence, text string
		prepare        func(*fleet)
		says           string
	}{
		{"unknown kind", `{"kind":"kernel"}`, nil, "waiting: it is not valid: kind: \"kernel\" is not known; want one of os, image and agent"},
		{"no image", `{"kind":"image","image":"node"}`, nil, "image: \"node\" is none; want an image's ID"},
		{"no such host", `{"kind":"os","hosts":["h7"]}`, nil, "there is no host h7; there are h1, h2"},
		{"no such label", `{"kind":"os","labels":{"zone":"z"}}`, nil, "no host has the labels map[zone:z]; there are h1, h2"},
		{"one host", `{"kind":"os"}`, func(f *fleet) { delete(f.hosts, "h2") }, "h1 is the only host: its tenants have nowhere to go"},
		{"undo of what has not begun", `{"kind":"image","image":"` + fresh + `","undo":true}`, nil, "there is nothing to undo"},
		{"gone", `{"kind":"os","hosts":["h1"]}`, func(f *fleet) { f.hosts["h1"].present = false }, "running: waits for h1: it is gone"},
		{"cordoned by hand", `{"kind":"os","hosts":["h1"]}`, func(f *fleet) { f.put(cluster.CordonKey("h1"), "slow disk") }, "waits for h1: it is cordoned: slow disk"},
		{"drained by hand", `{"kind":"os","hosts":["h1"]}`, func(f *fleet) { f.put(cluster.DrainKey("h1"), "mine") }, "waits for h1: it is drained: mine"},
		{"distrusted", `{"kind":"os","hosts":["h1"]}`, func(f *fleet) { f.hosts["h1"].distrust = "it flaps" }, "waits for h1: it is distrusted: it flaps"},
		{"not well", `{"kind":"os","hosts":["h1"]}`, func(f *fleet) { f.hosts["h1"].unready = "no Docker" }, "waits for h1: it is not well: no Docker"},
		{"another member is gone", `{"kind":"os","hosts":["h1"]}`, func(f *fleet) {
			f.hosts["h1"].member, f.hosts["h2"].member, f.hosts["h2"].present = true, true, false
		}, "waits for h1: h1 has a member of etcd, as h2 has, which is gone"},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			f := newFleet(t, "h1", "h2")
			if c.prepare != nil {
				c.prepare(f)
			}
			f.put(cluster.RolloutKey("r1"), c.text)
			f.pass(10)
			f.says("r1", c.says)
			if len(f.trace) > 0 {
				t.Error(f.trace)
			}
		})
	}
}

func TestOthersGoFirstWhileOneIsWaitedFor(t *testing.T) {
	f := newFleet(t, "h1", "h2", "h3")
	f.hosts["h2"].present = false
	f.put(cluster.RolloutKey("r1"), text(cluster.RolloutOS, ""))
	f.until("the others are done", func() bool { return f.hosts["h1"].boot+f.hosts["h3"].boot == 2 && f.step("h3") == "" })
	f.pass(5)
	f.says("r1", "waits for h2: it is gone")
	f.put(cluster.RolloutKey("r2"), text(cluster.RolloutImage, `,"hosts":["h1"]`)) // meanwhile
	f.phase("r2", cluster.RolloutDone)
	f.hosts["h2"].present = true
	f.phase("r1", cluster.RolloutDone)
}

func TestNoRoomIsWaitedForAndSaid(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	f.hosts["h1"].waits = true
	f.put(cluster.RolloutKey("r1"), text(cluster.RolloutOS, ""))
	f.pass(3000)
	if c, _ := read[cluster.Cycle](f, cluster.CycleKey("h1")); c.Step != cluster.StepDrain || !slices.Equal(c.Waiting, []string{"acme.9 waits: no host has 128MiB"}) {
		t.Fatalf("%+v", c)
	}
	f.hosts["h1"].waits = false
	f.phase("r1", cluster.RolloutDone)
}

func TestAHostWithoutRoomIsLetGoWhenItsRolloutEnds(t *testing.T) {
	for _, end := range []etcd.Op{etcd.Put(cluster.RolloutKey("r1"), []byte(`{"kind":"os","aborted":true}`)), etcd.Delete(cluster.RolloutKey("r1"))} {
		f := newFleet(t, "h1", "h2")
		f.hosts["h1"].waits = true
		f.put(cluster.RolloutKey("r1"), text(cluster.RolloutOS, ""))
		f.until("it drains", func() bool { return f.step("h1") == cluster.StepDrain })
		f.apply(end)
		f.pass(2)
		if f.clean(); f.hosts["h1"].boot > 0 || !end.Delete && f.status("r1").Phase != cluster.RolloutAborted {
			t.Errorf("%+v", f.status("r1"))
		}
	}
}

func TestAloneMeansAway(t *testing.T) {
	f := newFleet(t, "h1")
	f.hosts["h1"].waits = true
	f.put(cluster.RolloutKey("r1"), text(cluster.RolloutOS, `,"alone":true`))
	f.phase("r1", cluster.RolloutDone)
	f.traced(traceOf(cluster.RolloutOS, "h1")...)
}

func TestCanariesGoFirstAndAreWatched(t *testing.T) {
	f := newFleet(t, "h1", "h2", "h3", "h4")
	most := 0
	f.done = func(f *fleet) { most = max(most, len(f.under(cluster.CyclesPrefix))) }
	f.put(cluster.RolloutKey("r1"), text(cluster.RolloutImage, `,"pace":{"at_once":3,"canary":1,"watch":"10m"}`))
	f.phase("r1", cluster.RolloutWatched)
	f.pass(9 * 60)
	if f.says("r1", "the canaries are watched for 10m"); most != 1 || f.hosts["h2"].image != old {
		t.Errorf("%d at once, %+v", most, f.hosts["h2"])
	}
	f.until("h2 is told", func() bool { return f.step("h2") == cluster.StepPatch })
	if o, _ := read[cluster.Order](f, cluster.OrderKey("h2")); len(o.From) != 1 || o.From["h1"] != "h1:8443" {
		t.Errorf("the canary has the image, and h2 is told %v", o.From)
	}
	f.phase("r1", cluster.RolloutDone)
	if most != 3 {
		t.Errorf("%d at once", most)
	}
}

func TestTenantsBelowTheirMinimumStopIt(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	f.below["poor"] = "0 of 1" // it was so before
	f.put(cluster.RolloutKey("r1"), text(cluster.RolloutImage, ""))
	f.phase("r1", cluster.RolloutWatched)
	f.below["acme"] = "1 of 2"
	f.pass(200)
	f.says("r1", "running: tenant acme has 1 of 2 instances serving")
	f.phase("r1", cluster.RolloutStopped)
	f.says("r1", "tenant acme has 1 of 2 instances serving, and had enough when the rollout began")
	if f.hosts["h2"].image != old {
		t.Error("it went on")
	}
	f.put(cluster.RolloutKey("r1"), text(cluster.RolloutImage, ""))
	f.phase("r1", cluster.RolloutDone) // the operator has said that it may be
}

func TestUndo(t *testing.T) {
	for kind := range written {
		if kind == cluster.RolloutOS {
			continue
		}
		f := newFleet(t, "h1", "h2", "h3")
		f.put(cluster.RolloutKey("r1"), text(kind, `,"pace":{"at_once":2,"watch":"1s"}`))
		f.phase("r1", cluster.RolloutDone)
		f.put(cluster.RolloutKey("r1"), text(kind, `,"undo":true`))
		f.phase("r1", cluster.RolloutUndone)
		for _, h := range f.hosts {
			if h.image != old || h.release != old {
				t.Errorf("%+v", h)
			}
		}
		f.clean()
		for _, at := range steps[kind][:3] { // on the way
			f := newFleet(t, "h1", "h2", "h3")
			f.put(cluster.RolloutKey("r1"), text(kind, ""))
			f.until("h1 is at "+string(at), func() bool { return slices.Contains(f.trace, "h1 "+string(at)) })
			f.put(cluster.RolloutKey("r1"), text(kind, `,"undo":true`))
			f.phase("r1", cluster.RolloutUndone)
			if h := f.hosts["h1"]; h.image != old || h.release != old || f.status("r1").Hosts["h2"].State != cluster.HostWaiting {
				t.Errorf("undone at %s: %+v", at, h)
			}
			f.clean()
		}
	}
}

func TestAStoppedImageIsUndone(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	f.hosts["h1"].stuck = true
	f.put(cluster.RolloutKey("r1"), text(cluster.RolloutImage, ""))
	f.phase("r1", cluster.RolloutStopped)
	f.below["acme"] = "0 of 1"
	f.hosts["h1"].stuck = false
	f.put(cluster.RolloutKey("r1"), text(cluster.RolloutImage, `,"undo":true`))
	f.phase("r1", cluster.RolloutUndone)
	if f.hosts["h1"].image != old {
		t.Errorf("%+v", f.hosts["h1"])
	}
}

func TestARolloutThatIsRemovedLeavesNothing(t *testing.T) {
	for _, at := range steps[cluster.RolloutOS][:6] {
		f := newFleet(t, "h1", "h2")
		f.put(cluster.RolloutKey("r1"), text(cluster.RolloutOS, ""))
		f.until("h1 is at "+string(at), func() bool { return slices.Contains(f.trace, "h1 "+string(at)) })
		f.apply(etcd.Delete(cluster.RolloutKey("r1")))
		f.until("h1 is done", func() bool { return slices.Contains(f.trace, "h1 done") })
		f.pass(100)
		f.clean()
		if f.hosts["h1"].boot != 1 || f.hosts["h2"].boot != 0 || len(f.under(cluster.StatusPrefix)) > 0 {
			t.Errorf("removed at %s: %s", at, f.dump())
		}
	}
}

func TestACycleThatIsRemovedStopsItsRollout(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	f.hosts["h1"].waits = true
	f.put(cluster.RolloutKey("r1"), text(cluster.RolloutOS, ""))
	f.until("it drains", func() bool { return f.step("h1") == cluster.StepDrain })
	f.apply(etcd.Delete(cluster.CycleKey("h1")))
	f.pass(10)
	f.says("r1", "stopped: the cycle of h1 was removed")
	f.clean()
}

func TestInvalidIsNotAbsent(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	f.put(cluster.RolloutKey("r1"), text(cluster.RolloutOS, ""))
	f.until("it drains", func() bool { return f.step("h1") == cluster.StepDrain })
	f.put(cluster.RolloutKey("r1"), `{"kind":"os","pased":true}`)
	f.pass(300)
	if f.says("r1", "it is not valid"); f.hosts["h1"].boot != 1 || f.hosts["h2"].boot != 0 {
		t.Error("the host that was at it goes on, and no other begins")
	}
	f.put(cluster.RolloutKey("r1"), text(cluster.RolloutOS, ""))
	f.phase("r1", cluster.RolloutDone)
}
