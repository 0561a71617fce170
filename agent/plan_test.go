package agent

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"bulkhead/agent/cells"
	"bulkhead/cluster"
	"bulkhead/units"
)

// want is what is desired of acme.0 in these tests.
func want(t *testing.T) Want {
	t.Helper()
	p := cluster.Placement{
		Tenant: "acme", Instance: "acme.0", Image: "sha256:one", Reason: "room",
		Resources: cluster.Resources{Memory: 64 << 20, CPU: 0.5, Pids: 32, Tmp: 1 << 20},
	}
	paths := cluster.Paths{Run: "/run/bulkhead", State: "/var/lib/bulkhead", Runner: "/opt/runner"}
	us, err := units.Render(cluster.Host{Paths: paths, ProxyGID: ProxyUID}, p)
	if err != nil {
		t.Fatal(err)
	}
	return Want{
		Placement: p, Revision: 7, Units: us, Cell: cellSpec(paths, p), Keys: []byte(`{"tenant":"acme"}`),
		Functions: map[string]cluster.Function{"hello": {Code: "x", Version: "v1"}}, FunctionsRevision: 8,
	}
}

// settledHost is a host on which acme.0 is all that it should be.
func settledHost(w Want) Observed {
	o := Observed{
		Units:      map[string]units.State{},
		Containers: map[string][]cells.Container{"acme.0": {{ID: "c1", Cell: "one", Image: w.Cell.Image, Running: true, Limits: w.Cell.Limits}}},
		Dirs:       map[string]Dir{"acme.0": {Whole: true, Keys: string(w.Keys), Functions: map[string]string{"hello": "v1"}, Told: w.Config(), Answers: true}},
	}
	for _, u := range w.Units {
		o.Units[u.Name] = units.State{Name: u.Name, Active: "active", Text: u.Text}
	}
	return o
}

func TestPlan(t *testing.T) {
	const service = "bulkhead-acme-0.service"
	for _, c := range []struct {
		sentence string
		change   func(w *Want, o *Observed)
		want     string
	}{
		{"what is as it should be is left alone", func(*Want, *Observed) {}, ""},
		{"an empty host gets all of an instance, from its directories up to its socket", func(_ *Want, o *Observed) { *o = Observed{} },
			"make directories, write keys, write functions, write units, take cell, start socket"},
		{"a runner that runs hears of new keys", func(w *Want, _ *Observed) { w.Keys = []byte("{}") }, "write keys, tell runner"},
		{"a runner that sleeps reads new keys when it wakes", func(w *Want, o *Observed) {
			w.Keys = []byte("{}")
			set(o, service, func(s *units.State) { s.Active = "inactive" })
		}, "write keys"},
		{"a function that is gone is removed", func(w *Want, _ *Observed) { w.Functions = nil }, "write functions, tell runner"},
		{"a runner that never confirmed what it was told is told again", func(_ *Want, o *Observed) {
			d := o.Dirs["acme.0"]
			d.Told = ""
			o.Dirs["acme.0"] = d
		}, "tell runner"},
		{"a changed jail restarts its runner", func(_ *Want, o *Observed) { set(o, service, func(s *units.State) { s.Text = "old" }) }, "write units, restart runner"},
		{"changed limits of the slice restart nothing", func(_ *Want, o *Observed) {
			set(o, "bulkhead-acme-0.slice", func(s *units.State) { s.Text = "old" })
		}, "write units"},
		{"a socket that was closed is opened", func(_ *Want, o *Observed) {
			set(o, "bulkhead-acme-0.socket", func(s *units.State) { s.Active = "failed" })
		}, "start socket"},
		{"a container that stopped is replaced, its runner stays", func(_ *Want, o *Observed) {
			o.Containers["acme.0"][0].Running = false
			d := o.Dirs["acme.0"]
			d.Answers = false
			o.Dirs["acme.0"] = d
		}, "remove container, take cell"},
		{"another image means another container", func(w *Want, _ *Observed) { w.Cell.Image = "sha256:two" },
			"remove container, take cell"},
		{"new limits resize the container in place", func(w *Want, _ *Observed) { w.Cell.Limits.Memory *= 2 }, "resize cell"},
		{"of two containers one goes", func(_ *Want, o *Observed) {
			second := o.Containers["acme.0"][0]
			second.ID = "c2"
			o.Containers["acme.0"] = append(o.Containers["acme.0"], second)
		}, "remove container"},
		{"nothing is done for an instance of which not all is known yet", func(w *Want, o *Observed) {
			*o = Observed{}
			w.Missing = "unit not written yet"
		}, ""},
		{"who holds directories that are gone starts anew", func(_ *Want, o *Observed) { o.Dirs["acme.0"] = Dir{} },
			"make directories, write keys, write functions, restart runner"},
		{"an instance that may sleep gets no cell before its runner asks", func(w *Want, o *Observed) {
			w.Placement.Sleep.Dormant, o.Containers = 1, nil
		}, ""},
		{"one that may sleep is rid of a container that stopped", func(w *Want, o *Observed) {
			w.Placement.Sleep.Dormant, o.Containers["acme.0"][0].Running = 1, false
		}, "remove container"},
		{"while Docker can't be asked, what needs no container is done", func(w *Want, o *Observed) {
			w.Keys, o.Containers, o.Blind = []byte("{}"), nil, errors.New("docker is away")
		}, "write keys, tell runner"},
	} {
		w := want(t)
		o := settledHost(w)
		c.change(&w, &o)
		if got := actions(Plan(Desired{"acme.0": w}, o)); got != c.want {
			t.Errorf("%s: got %q, want %q", c.sentence, got, c.want)
		}
	}
}

func set(o *Observed, unit string, change func(*units.State)) {
	s := o.Units[unit]
	change(&s)
	o.Units[unit] = s
}

func actions(tasks []Task) string {
	var all []string
	for _, t := range tasks {
		all = append(all, string(t.Action))
	}
	return strings.Join(all, ", ")
}

func TestPlanTakesDownWhatIsNotPlaced(t *testing.T) {
	w := want(t)
	tasks := Plan(Desired{}, settledHost(w))
	if got, want := actions(tasks), "remove units, remove container, remove units, remove directories"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := tasks[0].Units, []string{"bulkhead-acme-0.socket", "bulkhead-acme-0.service"}; !slices.Equal(got, want) {
		t.Errorf("first go %v, want %v", got, want)
	}
	if got, want := tasks[2].Units, []string{"bulkhead-acme-0.slice", "bulkhead-acme.slice"}; !slices.Equal(got, want) {
		t.Errorf("then go %v, want %v", got, want)
	}
	for _, task := range tasks {
		if task.Reason == "" {
			t.Errorf("%s has no reason", task.Action)
		}
	}
}

func TestPlanKeepsATenantsSliceForItsOtherInstances(t *testing.T) {
	w := want(t)
	o := settledHost(w)
	o.Units["bulkhead-acme-1.service"] = units.State{Name: "bulkhead-acme-1.service", Active: "active", Text: "x"}
	for _, task := range Plan(Desired{"acme.0": w}, o) {
		if task.Instance != "acme.1" || slices.Contains(task.Units, "bulkhead-acme.slice") {
			t.Errorf("unexpected: %+v", task)
		}
	}
}

func TestPlanRemovesWhatNoInstanceCanBe(t *testing.T) {
	o := Observed{Containers: map[string][]cells.Container{"": {{ID: "c9", Running: true}}}, Dirs: map[string]Dir{"lost+found": {}}}
	if got, want := actions(Plan(Desired{}, o)), "remove container, remove directories"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestOwner(t *testing.T) {
	for unit, want := range map[string]string{
		"bulkhead-acme-0.service":        "acme.0",
		"bulkhead-acme_west-12.socket":   "acme-west.12",
		"bulkhead-acme-0.slice":          "acme.0",
		"bulkhead-acme.slice":            "acme.0", // shared; counted as the first's
		"bulkhead-proxy.service":         "",
		"bulkhead-proxy.socket":          "",
		"bulkhead.slice":                 "",
		"bulkhead-acme.service":          "",
		"bulkhead-acme-x.service":        "",
		"bulkhead-acme-00.service":       "",
		"bulkhead-Acme-0.service":        "",
		"bulkhead-acme-0.mount":          "",
		"ssh.service":                    "",
		"bulkhead-acme-0.service.d":      "",
		"bulkhead-../../etc/x-0.service": "",
	} {
		if got := owner(unit); got != want {
			t.Errorf("owner of %s: %q, want %q", unit, got, want)
		}
	}
}
