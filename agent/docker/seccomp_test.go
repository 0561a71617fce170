package docker

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/system"

	"bulkhead/agent/cells"
	"bulkhead/agent/docker/dockertest"
)

// createWith makes a container as Create does, but for the filter: none in
// option is Docker's own.
func createWith(t *testing.T, e *Engine, s cells.ContainerSpec, option ...string) {
	t.Helper()
	api, err := e.api(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cfg, host := e.specs(s, "")
	host.SecurityOpt = append([]string{"no-new-privileges"}, option...)
	made, err := api.ContainerCreate(t.Context(), cfg, host, nil, nil, s.Name())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Remove(context.WithoutCancel(t.Context()), made.ID) })
	if err := api.ContainerStart(t.Context(), made.ID, container.StartOptions{}); err != nil {
		t.Fatal(err)
	}
}

// Each call that the probe tries is refused by our filter, and is not the
// kernel's refusal: under Docker's filter, or under none, it works or fails in
// another way. What is needed works.
func TestCallsAreRefused(t *testing.T) {
	e := open(t, "dockertest-calls")
	image := dockertest.Probe(t, "calls")
	answers, sockets := map[string]map[string]any{}, map[string]string{}
	for _, filter := range []string{"ours", "Docker's", "none"} {
		s := testSpec(t, image)
		switch filter {
		case "ours":
			made, err := e.Create(t.Context(), s)
			if err != nil {
				t.Fatal(err)
			}
			defer e.Remove(context.WithoutCancel(t.Context()), made.ID)
		case "Docker's":
			createWith(t, e, s)
		case "none":
			createWith(t, e, s, "seccomp=unconfined")
		}
		sockets[filter] = filepath.Join(s.Dir, "control.sock")
		answers[filter] = ask(t, sockets[filter])
	}
	absent := map[string]bool{"clone3": true, "io_uring_setup": true, "openat2": true} // for libraries to fall back
	passed := 0
	for name, got := range answers["ours"]["refused"].(map[string]any) {
		want := "EPERM"
		if absent[name] {
			want = "ENOSYS"
		}
		docker, none := answers["Docker's"]["refused"].(map[string]any)[name], answers["none"]["refused"].(map[string]any)[name]
		if got != want {
			t.Errorf("%s gives %q, want %s", name, got, want)
		}
		if docker == want && none == want {
			t.Errorf("%s gives %s under any filter and under none, so trying it shows nothing", name, want)
		}
		if docker != want {
			passed++
		}
	}
	t.Logf("of %d calls, Docker's filter lets %d through", len(answers["ours"]["refused"].(map[string]any)), passed)
	for name, got := range answers["ours"]["needed"].(map[string]any) {
		if got != "" {
			t.Errorf("%s gives %s, and is needed", name, got)
		}
	}
	logCost(t, sockets)
}

// logCost tells what a cheap call takes in each container, the best of some
// rounds by turns. It is told and not judged: the machine does other things.
func logCost(t *testing.T, sockets map[string]string) {
	best := map[string]float64{}
	for range 5 {
		for filter, socket := range sockets {
			cost := ask(t, socket)["cost"].(float64)
			if was, ok := best[filter]; !ok || cost < was {
				best[filter] = cost
			}
		}
	}
	t.Logf("a cheap call takes %.0f ns under our filter, %.0f ns under Docker's, %.0f ns under none", best["ours"], best["Docker's"], best["none"])
}

// An engine that says nothing of a filter gets no tenant.
func TestEnginesWithoutFilterAreRefused(t *testing.T) {
	for _, c := range []struct {
		options []string
		fit     bool
	}{
		{[]string{"name=apparmor", "name=seccomp,profile=default"}, true},
		{[]string{"name=seccomp,profile=builtin", "name=cgroupns"}, true},
		{[]string{"name=seccomp,profile=unconfined"}, true}, // the default of others: ours is named
		{[]string{"name=apparmor", "name=noseccomp"}, false},
		{nil, false},
	} {
		err := fit(system.Info{SecurityOptions: c.options})
		if (err == nil) != c.fit {
			t.Errorf("with the security options %q: error %v", c.options, err)
		}
		if err != nil && !strings.Contains(err.Error(), "without seccomp") {
			t.Errorf("the error does not say what is missing: %v", err)
		}
	}
}
