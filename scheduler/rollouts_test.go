package scheduler

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkhead/cluster"
	"bulkhead/scheduler/rollout"
)

func TestAnotherImageReplacesInstancesWhereTheyAre(t *testing.T) {
	f := newFixture(t)
	f.host(sized("h1", "", "1GiB", 4))
	f.host(sized("h2", "", "8GiB", 64))
	f.put(cluster.CordonKey("h2"), "not yet")
	f.tenant("acme", "")
	f.settle()
	f.ready()
	f.del(cluster.CordonKey("h2"))
	h := sized("h1", "", "1GiB", 4)
	h.Image = "sha256:two"
	f.host(h)
	f.settle()
	f.is("although h2 has more room", f.where("acme"), "acme.0@h1 acme.1@h1")
	f.is("the old one's image", f.placement("h1", "acme.0").Image, "sha256:one")
	f.is("the new one's", f.placement("h1", "acme.1").Image, "sha256:two")
	f.tenant("acme", `"limits":{"wall":"7s"}`)
	f.settle()
	f.is("whatever else changes", f.placement("h1", "acme.0").Image, "sha256:one")
	f.is("changes", f.placement("h1", "acme.0").Limits.Wall.String(), "7s")
	f.ready()
	f.is("once the new one serves", f.where("acme"), "acme.1@h1")

	f.tenant("acme", `"resources":{"memory":"600MiB"}`)
	f.settle()
	f.ready()
	h.Image = "sha256:three"
	f.host(h)
	f.settle()
	f.is("where there is no room for both", f.where("acme"), "acme.0@h2 acme.1@h1")
}

func TestAnotherRunnerReplacesInstancesAsWell(t *testing.T) {
	f := newFixture(t)
	h := sized("h1", "", "1GiB", 4)
	h.Paths.Runner = "/opt/runner-one"
	f.host(h)
	f.tenant("acme", "")
	f.settle()
	f.ready()
	h.Paths.Runner = "/opt/runner-two"
	f.host(h)
	f.settle()
	f.is("beside the old one", f.where("acme"), "acme.0@h1 acme.1@h1")
	f.is("whose runner stays", f.placement("h1", "acme.0").Runner, "/opt/runner-one")
	for instance, runner := range map[string]string{"0": "/opt/runner-one", "1": "/opt/runner-two"} {
		if unit := f.keys[cluster.UnitKey("h1", "bulkhead-acme-"+instance+".service")]; !strings.Contains(unit, runner+":") {
			t.Errorf("the unit of acme.%s has another runner than %s: %s", instance, runner, unit)
		}
	}
	f.ready()
	f.is("once the new one serves", f.where("acme"), "acme.1@h1")
}

func TestAnOutdatedInstanceThatDoesNotServeMakesRoomForItself(t *testing.T) {
	f := newFixture(t)
	f.host(sized("h1", "", "200MiB", 4))
	f.tenant("acme", "")
	f.settle()
	h := sized("h1", "", "200MiB", 4)
	h.Image = "sha256:two"
	f.host(h)
	f.settle()
	f.is("for now", f.placement("h1", "acme.0").Image, "sha256:one")
	f.wait(grace)
	f.is("it never served", f.placement("h1", "acme.0").Image, "sha256:two")
	f.ready()
	h.Image = "sha256:three"
	f.host(h)
	f.settle()
	f.wait(time.Hour)
	f.is("it serves", f.placement("h1", "acme.0").Image, "sha256:two")
	f.says("acme", "acme.1 waits: no host has 128MiB")
}

func TestTwoOfATenantOnOneHostAreReplacedThere(t *testing.T) {
	f := newFixture(t)
	f.host(testHost("h1", ""))
	f.tenant("acme", `"replicas":{"min":2}`)
	f.settle()
	f.ready()
	f.host(testHost("h2", ""))
	h := testHost("h1", "")
	h.Image = "sha256:two"
	f.host(h)
	f.settle()
	f.is("both", f.where("acme"), "acme.0@h1 acme.1@h1 acme.2@h1 acme.3@h1")
	f.ready()
	f.is("then", f.where("acme"), "acme.2@h1 acme.3@h1")
}

// agents do what orders say, and report instances as ready, or as gone.
func (f *fixture) agents(hosts map[string]*cluster.Host) {
	f.t.Helper()
	for _, name := range sorted(hosts) {
		h := hosts[name]
		var order cluster.Order
		var report cluster.Report
		_ = json.Unmarshal([]byte(f.keys[cluster.OrderKey(name)]), &order)
		_ = json.Unmarshal([]byte(f.keys[cluster.ReportKey(name)]), &report)
		present := f.keys[cluster.HostKey(name)] != ""
		switch {
		case !present:
			h.Boot += "+"
			f.host(*h)
			report.State = cluster.OrderDone
			f.put(cluster.ReportKey(name), report)
		case order.ID == "" || report.Order == order.ID:
		case order.Action != "":
			f.put(cluster.ReportKey(name), cluster.Report{Order: order.ID, State: cluster.OrderDoing, Left: true})
			f.lose(name)
		default:
			if order.Image != "" {
				h.Image = order.Image
				f.host(*h)
			}
			f.put(cluster.ReportKey(name), cluster.Report{Order: order.ID, State: cluster.OrderDone, Left: order.Leave})
		}
		for _, key := range sorted(f.keys) {
			if n, ok := cluster.SplitKey(key, cluster.InstancesPrefix, 2); ok && n[0] == name && f.keys[cluster.PlacementKey(name, n[1])] == "" {
				f.del(key)
			}
		}
	}
	f.allServe()
	f.wait(time.Second)
}

func (f *fixture) rollout(id string) (st cluster.RolloutStatus) {
	_ = json.Unmarshal([]byte(f.keys[cluster.RolloutStatusKey(id)]), &st)
	return st
}

func TestRolloutsThroughThePlanner(t *testing.T) {
	image := "sha256:" + strings.Repeat("2", 64)
	for _, c := range []struct{ sentence, text string }{
		{"os", `{"kind":"os"}`},
		{"image", `{"kind":"image","image":"` + image + `"}`},
	} {
		t.Run(c.sentence, func(t *testing.T) {
			f := newFixture(t)
			hosts := map[string]*cluster.Host{}
			for _, name := range []string{"h1", "h2", "h3"} {
				h := testHost(name, "")
				h.Boot = "1"
				hosts[name] = &h
				f.host(h)
			}
			f.tenant("acme", `"replicas":{"min":2}`)
			f.tenant("sleepy", `"sleep":{"dormant":"1m"}`)
			f.tenant("bob", `"replicas":{"min":1}`)
			f.settle()
			f.ready()
			f.put(cluster.RolloutKey("r1"), c.text)
			drained := map[string]bool{}
			for range 300 {
				f.agents(hosts)
				for name := range hosts {
					drained[name] = drained[name] || f.keys[cluster.DrainKey(name)] != ""
				}
				for name, must := range map[string]int{"acme": 2, "sleepy": 1, "bob": 1} {
					serving := 0
					for _, p := range f.model.tenants[name].placed {
						if f.model.tenants[name].ready(p) {
							serving++
						}
					}
					if serving < must {
						t.Fatalf("tenant %s has %d of %d instances serving", name, serving, must)
					}
				}
				if f.rollout("r1").Phase == cluster.RolloutDone {
					break
				}
			}
			if st := f.rollout("r1"); st.Phase != cluster.RolloutDone {
				t.Fatalf("%+v %s", st, f.keys[cluster.CycleKey("h1")])
			}
			for name, h := range hosts {
				if c.sentence == "os" && (h.Boot == "1" || !drained[name]) || c.sentence == "image" && (h.Image != image || drained[name]) {
					t.Errorf("%+v, drained %v", h, drained[name])
				}
				if d := f.keys[cluster.DistrustKey(name)]; d != "" {
					t.Errorf("%s was told to boot, and is distrusted: %s", name, d)
				}
			}
			for key := range f.keys {
				if strings.HasPrefix(key, cluster.CyclesPrefix) || strings.HasPrefix(key, cluster.DrainsPrefix) || strings.HasPrefix(key, cluster.OrdersPrefix) {
					t.Errorf("%s is left", key)
				}
			}
			f.wrote()
			f.wait(time.Minute)
			if w := f.wrote(); len(w) > 0 {
				t.Errorf("after its end it writes %q", w)
			}
		})
	}
}

func TestADrainWithoutRoomSaysWhoNeedsWhat(t *testing.T) {
	f := newFixture(t)
	f.host(testHost("h1", ""))
	f.host(sized("h2", "", "64MiB", 1))
	f.tenant("acme", "")
	f.settle()
	f.ready()
	f.put(cluster.RolloutKey("r1"), `{"kind":"os","hosts":["h1"]}`)
	f.wait(time.Second)
	f.wait(time.Hour)
	f.wait(time.Hour)
	c := f.model.rolls.cycles["h1"]
	if c == nil || c.Step != cluster.StepDrain || !slices.ContainsFunc(c.Waiting, func(w string) bool {
		return strings.Contains(w, "acme.1 waits: no host has 128MiB, 0.5 cores and 64 pids free: h1 is drained, h2 has")
	}) {
		t.Fatalf("%+v", c)
	}
	f.host(testHost("h3", ""))
	f.settle()
	f.ready()
	f.is("with room", f.where("acme"), "acme.1@h3")
}

func TestNothingIsPicturedWhileThereIsNoRollout(t *testing.T) {
	f := newFixture(t)
	f.host(testHost("h1", ""))
	f.tenant("acme", "")
	f.settle()
	f.ready()
	f.wait(time.Second)
	if f.model.rolls.stir(true); f.model.rolls.dirty {
		t.Error("without rollouts there is something to look at")
	}
	f.put(cluster.RolloutKey("r1"), `{"kind":"os"}`)
	if !f.model.rolls.dirty {
		t.Error("a rollout is not looked at")
	}
	f.model.rolls.sights = rollout.NewSights()
	f.settle()
	if st := f.rollout("r1"); !strings.Contains(st.Reason, "h1 is the only host") {
		t.Errorf("%+v", st)
	}
}

func TestARolloutKnowsWhatHostsSayOfFailedRequests(t *testing.T) {
	f := newFixture(t)
	for _, name := range []string{"h1", "h2", "h3"} {
		f.host(testHost(name, ""))
	}
	says := func(host, load string) { f.put(cluster.LoadKey(host), load) }
	says("h1", `{"instances":{},"failed":17}`)
	says("h2", `{"instances":{},"failed":0}`)
	says("h3", `{"instances":{}}`)
	f.settle()
	f.put(cluster.RolloutKey("r1"), `{"kind":"os","hosts":["h1"],"paused":true}`)
	f.settle()
	says("h1", `{"instances":{},"failed":"many"}`)
	says("h2", `{"instances":{},"failed":4}`)
	says("h3", `{"instances":{},"failed":9}`)
	f.wait(time.Second)
	f.wait(10 * time.Second)
	want := map[string]cluster.Failures{"h1": {Requests: 0, Count: 17}, "h2": {Requests: 4, Count: 4}}
	if st := f.rollout("r1"); !maps.Equal(st.Failed, want) {
		t.Errorf("%+v, want %+v", st.Failed, want)
	}
	f.del(cluster.LoadKey("h2")) // it boots
	says("h1", `{"instances":{},"failed":18}`)
	f.wait(time.Second)
	f.wait(10 * time.Second)
	want["h1"] = cluster.Failures{Requests: 1, Count: 18}
	if st := f.rollout("r1"); !maps.Equal(st.Failed, want) {
		t.Errorf("%+v, want %+v", st.Failed, want)
	}
}
