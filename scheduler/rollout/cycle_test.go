package rollout

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkhead/cluster"
)

// written are rollouts of each kind, as an operator writes them.
var written = map[cluster.RolloutKind]string{
	cluster.RolloutOS:    `{"kind":"os"%s}`,
	cluster.RolloutImage: `{"kind":"image","image":"` + fresh + `"%s}`,
	cluster.RolloutAgent: `{"kind":"agent","release":"` + fresh + `"%s}`,
}

func text(kind cluster.RolloutKind, more string) string { return fmt.Sprintf(written[kind], more) }

// steps are those that a host goes through.
var steps = map[cluster.RolloutKind][]cluster.CycleStep{
	cluster.RolloutOS:    {cluster.StepCordon, cluster.StepDrain, cluster.StepLeave, cluster.StepPatch, cluster.StepReturn, cluster.StepSteady, cluster.StepDone},
	cluster.RolloutImage: {cluster.StepPatch, cluster.StepReturn, cluster.StepSteady, cluster.StepDone},
	cluster.RolloutAgent: {cluster.StepPatch, cluster.StepReturn, cluster.StepSteady, cluster.StepDone},
}

func traceOf(kind cluster.RolloutKind, hosts ...string) (trace []string) {
	for _, h := range hosts {
		for _, step := range steps[kind] {
			trace = append(trace, h+" "+string(step))
		}
	}
	return trace
}

// clean fails when a rollout has left anything behind.
func (f *fleet) clean() {
	f.t.Helper()
	for _, prefix := range []string{cluster.CyclesPrefix, cluster.OrdersPrefix, cluster.DrainsPrefix, cluster.CordonsPrefix} {
		if left := f.under(prefix); len(left) > 0 {
			f.t.Errorf("left under %s: %v", prefix, left)
		}
	}
}

func (f *fleet) traced(want ...string) {
	f.t.Helper()
	if !slices.Equal(f.trace, want) {
		f.t.Errorf("steps:\n%s\nwant\n%s", strings.Join(f.trace, "\n"), strings.Join(want, "\n"))
	}
}

func TestEveryKindTakesItsStepsAlsoWhenEveryWriteIsTheLeadersLast(t *testing.T) {
	for kind := range written {
		for _, restarts := range []bool{false, true} {
			t.Run(fmt.Sprint(kind, " ", restarts), func(t *testing.T) {
				f := newFleet(t, "h1", "h2", "h3")
				f.restarts = restarts
				f.done = (*fleet).inTurns
				f.put(cluster.RolloutKey("r1"), text(kind, ""))
				f.phase("r1", cluster.RolloutDone)
				f.traced(traceOf(kind, "h1", "h2", "h3")...)
				f.clean()
				for name, h := range f.hosts {
					if o := f.status("r1").Hosts[name]; o.State != cluster.HostDone || o.Took <= 0 {
						t.Errorf("%s: %+v", name, o)
					}
					if kind == cluster.RolloutOS && h.boot != 1 || kind == cluster.RolloutImage && h.image != fresh || kind == cluster.RolloutAgent && h.release != fresh {
						t.Errorf("%+v", h)
					}
				}
				if len(f.alerts) > 0 {
					t.Error(f.alerts)
				}
			})
		}
	}
}

// inTurns holds what may never be.
func (f *fleet) inTurns() {
	members, groups := 0, map[string]int{}
	for _, name := range f.under(cluster.CyclesPrefix) {
		c, _ := read[cluster.Cycle](f, cluster.CycleKey(name))
		if groups[c.Group]++; groups[c.Group] > 1 {
			f.t.Fatalf("two of group %s are in cycles: %v", c.Group, f.under(cluster.CyclesPrefix))
		}
		if f.hosts[name].member {
			members++
		}
	}
	if members > 1 {
		f.t.Fatal("two members of etcd are in cycles")
	}
}

func TestWhatGoesWrongStopsTheRolloutAndSaysWhy(t *testing.T) {
	for _, c := range []struct {
		sentence string
		kind     cluster.RolloutKind
		wrong    func(*fake)
		at       cluster.CycleStep // where it stops
		says     string
		drained  bool // the host keeps its drain
	}{
		{"an instance never leaves", cluster.RolloutOS, func(h *fake) { h.stuck = true }, cluster.StepDrain, "acme.1 has not left h1 within 5m, although there is room", false},
		{"its agent does not stop the last", cluster.RolloutOS, func(h *fake) { h.left, h.running, h.stuck = nil, 1, true }, cluster.StepDrain, "has not stopped the last 1 instances", false},
		{"its proxy does not leave", cluster.RolloutOS, func(h *fake) { h.left, h.deaf = nil, true }, cluster.StepLeave, "the proxy of h1 has not left within 5m", false},
		{"the action fails", cluster.RolloutOS, func(h *fake) { h.fails = true }, cluster.StepPatch, "h1 cannot reboot: it is out of order", false},
		{"it comes back with the same boot", cluster.RolloutOS, func(h *fake) { h.sameBoot = true }, cluster.StepReturn, "has not booted anew within 15m", false},
		{"it never comes back", cluster.RolloutOS, func(h *fake) { h.neverBack = true }, cluster.StepReturn, "h1 has not come back within 15m", true},
		{"it is not well", cluster.RolloutOS, func(h *fake) { h.unready = "Docker does not answer" }, cluster.StepSteady, "h1 is back, but not well: Docker does not answer", false},
		{"it flaps", cluster.RolloutOS, func(h *fake) { h.flaps = true }, cluster.StepSteady, "h1 ", false},
		{"the image cannot be had", cluster.RolloutImage, func(h *fake) { h.fails = true }, cluster.StepPatch, "h1 cannot have " + fresh + ": it is out of order", false},
		{"nobody takes the order", cluster.RolloutImage, func(h *fake) { h.deaf = true }, cluster.StepPatch, "h1 has not got " + fresh + " within 15m", false},
		{"an instance is not replaced", cluster.RolloutImage, func(h *fake) { h.stuck = true }, cluster.StepReturn, "acme.1 was not replaced on h1 within 5m", false},
		{"the release cannot be had", cluster.RolloutAgent, func(h *fake) { h.fails = true }, cluster.StepPatch, "h1 cannot have " + fresh, false},
	} {
		for _, restarts := range []bool{false, true} {
			t.Run(fmt.Sprint(c.sentence, " ", restarts), func(t *testing.T) {
				f := newFleet(t, "h1", "h2", "h3")
				f.restarts = restarts
				unready := ""
				c.wrong(f.hosts["h1"])
				f.hosts["h1"].unready, unready = "", f.hosts["h1"].unready
				f.put(cluster.RolloutKey("r1"), text(c.kind, ""))
				f.until("it reaches "+string(c.at), func() bool { return f.step("h1") == c.at || f.status("r1").Phase == cluster.RolloutStopped })
				f.hosts["h1"].unready = unready
				f.phase("r1", cluster.RolloutStopped)
				if st := f.status("r1"); !strings.Contains(st.Reason, c.says) {
					t.Errorf("says %q, want %q", st.Reason, c.says)
				}
				if len(f.alerts) != 1 {
					t.Errorf("alerts: %q", f.alerts)
				}
				if c.sentence != "it flaps" {
					if _, drained := f.keys[cluster.DrainKey("h1")]; drained != c.drained {
						t.Errorf("drained: %v", drained)
					}
					if !c.drained {
						f.clean()
					}
				}
				f.pass(3600)
				if f.hosts["h2"].boot+f.hosts["h3"].boot > 0 || f.hosts["h2"].image != old || f.hosts["h2"].release != old {
					t.Error("a stopped rollout went on with another host")
				}
				f.mendAndResume(c.kind)
			})
		}
	}
}

// mendAndResume puts h1 right, and has the rollout go on: there.
func (f *fleet) mendAndResume(kind cluster.RolloutKind) {
	f.t.Helper()
	h := f.hosts["h1"]
	if !h.present {
		h.away = 1
	}
	h.stuck, h.deaf, h.fails, h.sameBoot, h.neverBack, h.flaps, h.unready = false, false, false, false, false, false, ""
	f.put(cluster.RolloutKey("r1"), text(kind, ""))
	f.phase("r1", cluster.RolloutDone)
	for name := range f.hosts {
		if o := f.status("r1").Hosts[name]; o.State != cluster.HostDone {
			f.t.Errorf("%s: %+v", name, o)
		}
	}
	if i := slices.Index(f.trace, "h2 "+string(steps[kind][0])); i < 0 || !slices.Contains(f.trace[:i], "h1 done") {
		f.t.Error("h2 began before h1 had been seen to")
	}
	f.clean()
}

func TestAHostThatComesBackLateIsDoneAndTheRolloutStaysStopped(t *testing.T) {
	f := newFleet(t, "h1", "h2")
	f.hosts["h1"].neverBack = true
	f.put(cluster.RolloutKey("r1"), text(cluster.RolloutOS, ""))
	f.phase("r1", cluster.RolloutStopped)
	f.hosts["h1"].away = 600
	f.until("h1 is done", func() bool { return f.status("r1").Hosts["h1"].State == cluster.HostDone })
	f.clean()
	f.pass(100)
	if st := f.status("r1"); st.Phase != cluster.RolloutStopped || f.hosts["h2"].boot > 0 {
		t.Errorf("%+v", st)
	}
}

func TestPausedAndAbortedAtEveryStep(t *testing.T) {
	for kind, all := range steps {
		for _, at := range all[:len(all)-1] {
			for _, order := range []string{`"paused":true`, `"aborted":true`} {
				t.Run(fmt.Sprint(kind, at, order), func(t *testing.T) {
					f := newFleet(t, "h1", "h2")
					f.put(cluster.RolloutKey("r1"), text(kind, ""))
					for !slices.Contains(f.trace, "h1 "+string(at)) {
						if d := Decide(f.picture(), f.sights); !d.none() { // write by write
							f.apply(d.Ops...)
							for _, op := range d.Ops {
								if op.Key == cluster.CycleKey("h1") && !op.Check {
									f.note("h1", op)
								}
							}
							continue
						}
						f.now = f.now.Add(time.Second)
						f.act(f.hosts["h1"])
					}
					f.put(cluster.RolloutKey("r1"), text(kind, ","+order))
					f.pass(300)
					want := map[string]string{`"paused":true`: cluster.RolloutPaused, `"aborted":true`: cluster.RolloutAborted}[order]
					if st := f.status("r1"); st.Phase != want || st.Hosts["h1"].State != cluster.HostDone || st.Hosts["h2"].State != cluster.HostWaiting {
						t.Fatalf("%+v", st)
					}
					f.clean()
					if want == cluster.RolloutPaused {
						f.put(cluster.RolloutKey("r1"), text(kind, ""))
						f.phase("r1", cluster.RolloutDone)
					}
				})
			}
		}
	}
}

func TestLeadersWithOtherClocksAreNeitherHastyNorForEver(t *testing.T) {
	for _, off := range []time.Duration{48 * time.Hour, -48 * time.Hour} {
		f := newFleet(t, "h1", "h2")
		f.hosts["h1"].neverBack = true
		f.put(cluster.RolloutKey("r1"), text(cluster.RolloutOS, ""))
		f.until("it is away", func() bool { return f.step("h1") == cluster.StepReturn })
		f.pass(10)
		f.now, f.sights = f.now.Add(off), NewSights()
		f.pass(14 * 60)
		if st := f.status("r1"); st.Phase != cluster.RolloutRunning {
			t.Errorf("a clock that is off by %s: %+v", off, st)
		}
		f.pass(2 * 60)
		if st := f.status("r1"); st.Phase != cluster.RolloutStopped {
			t.Errorf("a clock that is off by %s: %+v", off, st)
		}
	}
}
