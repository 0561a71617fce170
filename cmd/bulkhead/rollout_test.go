package main

import (
	"context"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// obey has hosts take the images that they are told to.
func (s *site) obey(fails bool) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		v := &view{}
		for b := range etcd.Watch(ctx, s.cli, cluster.OrdersPrefix, cluster.HostsPrefix, cluster.ReportsPrefix) {
			v.take(b)
			under(v, cluster.OrdersPrefix, 1, func(n []string, o cluster.Order, _ etcd.Event) {
				h, _ := get[cluster.Host](v, cluster.HostKey(n[0]))
				if r, _ := get[cluster.Report](v, cluster.ReportKey(n[0])); r.Order == o.ID || o.Image == "" {
					return
				}
				report := cluster.Report{Order: o.ID, State: cluster.OrderDone, Time: time.Now()}
				if fails {
					report.State, report.Error = cluster.OrderFailed, "its disk is full"
				} else {
					h.Image = o.Image
					data, _ := json.Marshal(h)
					_, _ = s.cli.Put(ctx, cluster.HostKey(n[0]), string(data))
				}
				data, _ := json.Marshal(report)
				_, _ = s.cli.Put(ctx, cluster.ReportKey(n[0]), string(data))
			})
		}
	}()
	s.t.Cleanup(func() { cancel(); <-done })
}

// phase waits until a rollout's status says one.
func (s *site) phase(id, want string) {
	s.t.Helper()
	v, ok := store{s.cli}.wait(s.t.Context(), 60*time.Second, func(v *view) bool {
		st, _ := get[cluster.RolloutStatus](v, cluster.RolloutStatusKey(id))
		return st.Phase == want
	}, cluster.StatusPrefix+"rollouts/")
	if !ok {
		s.t.Fatalf("rollout %s is not %s: %v", id, want, v.keys)
	}
}

func TestRolloutVerbs(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.addHost()
	s.addHostNamed("h2")
	s.obey(false)
	s.must("tenant", "apply", "-f", s.file("acme.yaml", acmeYAML), "--wait")
	image := "sha256:" + strings.Repeat("2", 64)

	s.fails(exitNotFound, "there is no rollout", "rollout", "status")
	s.fails(exitInvalid, `"kernel" is not known; want one of os, image and agent`, "rollout", "start", "kernel")
	s.fails(exitInvalid, "image: is missing", "rollout", "start", "image")
	s.fails(exitInvalid, `rollout id "A B"`, "rollout", "start", "os", "--id", "A B")
	s.fails(exitNotFound, "has no turn", "rollout", "unlock", "h1")

	s.says("rollout r1 begins", "rollout", "start", "image", "--id", "r1", "--image", image, "--steady", "1s", "--watch-for", "1s")
	s.fails(exitFailure, "there is a rollout r1 already", "rollout", "start", "image", "--id", "r1", "--image", image)
	out := s.must("rollout", "status", "r1", "--watch")
	for _, want := range []string{"Rollout    r1: image sha256:222222222222", "Phase      done", "██████████ 2 of 2", "patch", "LEFT TO MOVE", "IN FLIGHT"} {
		if !strings.Contains(out, want) {
			t.Errorf("watching does not show %q:\n%s", want, out)
		}
	}
	s.says("2 of 2", "rollout", "list")
	s.says("acme.1", "tenant", "show", "acme") // it was replaced
	var shown rolloutView
	if err := json.Unmarshal([]byte(s.must("rollout", "status", "-o", "json")), &shown); err != nil || shown.Status.Phase != cluster.RolloutDone || len(shown.Hosts) != 2 {
		t.Errorf("%+v %v", shown, err)
	}
	s.says("is undone", "rollout", "undo", "r1")
	s.phase("r1", cluster.RolloutUndone)
	s.says("removed", "rollout", "rm", "r1")

	s.must("rollout", "start", "os", "--id", "r2", "--host", "h9")
	s.phase("r2", cluster.RolloutWaiting)
	s.says("there is no host h9", "rollout", "status")
	s.says("r2 is waiting", "status")
	s.fails(exitFailure, "it is waiting", "rollout", "rm", "r2")
	s.must("rollout", "abort", "r2")
	s.phase("r2", cluster.RolloutAborted)
	s.fails(exitInvalid, "can't be had of an os rollout", "rollout", "undo", "r2")
	s.fails(exitNotFound, "there is no rollout", "rollout", "pause", "r9")
}

func TestRolloutsThatStopAndLocks(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.addHost()
	s.addHostNamed("h2")
	s.obey(true)
	s.must("rollout", "start", "image", "--id", "r1", "--image", "sha256:"+strings.Repeat("2", 64))
	s.fails(exitFailure, "h1 cannot have sha256:2222", "rollout", "status", "--watch")
	s.says("its disk is full", "status")
	s.must("rollout", "pause", "r1")

	s.must("rollout", "start", "os", "--id", "r2", "--host", "h2")
	if _, ok := (store{s.cli}).wait(t.Context(), 30*time.Second, func(v *view) bool { return len(v.keys) > 0 }, cluster.CycleKey("h2")); !ok {
		t.Fatal("h2 does not begin")
	}
	ask, _ := json.Marshal(cluster.Ask{Group: "default", ID: "x", Wanted: true, Time: time.Now()})
	_, _ = s.cli.Put(t.Context(), cluster.AskKey("h1"), string(ask))
	out := s.must("rollout", "locks")
	if !strings.Contains(out, "r2") || !strings.Contains(out, "asks") {
		t.Error(out)
	}
	s.fails(exitUsage, "ends by itself", "rollout", "unlock", "h2")
	s.says("has its turn no more", "rollout", "unlock", "h2", "--force")
	s.phase("r2", cluster.RolloutStopped)
	s.says("the cycle of h2 was removed", "rollout", "status", "r2")
}

func TestRolloutSaysHowManyRequestsFailed(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, host := range []string{"h1", "h2", "h3"} {
		s.addHostNamed(host)
	}
	load := func(host, value string) {
		if _, err := s.cli.Put(t.Context(), cluster.LoadKey(host), value); err != nil {
			t.Fatal(err)
		}
	}
	load("h1", `{"instances":{},"failed":17}`)
	load("h2", `{"instances":{},"failed":0}`)
	s.must("rollout", "start", "image", "--id", "r1", "--image", "sha256:"+strings.Repeat("2", 64), "--host", "h1")
	s.phase("r1", cluster.RolloutRunning)
	s.says("Failed     0 requests since the start; not known of h3\n", "rollout", "status")
	load("h1", `{"instances":{},"failed":19}`)
	load("h2", `{"instances":{},"failed":1}`)
	load("h3", `{"instances":{},"failed":5}`) // since when?
	s.says("Failed     3 requests since the start: h1 2, h2 1; not known of h3\n", "rollout", "status")
	shown := func() (r rolloutView) {
		if err := json.Unmarshal([]byte(s.must("rollout", "status", "-o", "json")), &r); err != nil || r.Failed == nil || len(r.Hosts) != 1 || r.Hosts[0].Failed == nil {
			t.Fatalf("%+v %v", r, err)
		}
		return r
	}
	want := rolloutFailed{Requests: 3, Hosts: map[string]int64{"h1": 2, "h2": 1}, Unknown: []string{"h3"}}
	if r := shown(); !reflect.DeepEqual(*r.Failed, want) || *r.Hosts[0].Failed != 2 {
		t.Errorf("%+v, h1 %d", *r.Failed, *r.Hosts[0].Failed)
	}
	// The leader notes the counts, so they outlast a host that boots.
	if _, ok := (store{s.cli}).wait(t.Context(), 30*time.Second, func(v *view) bool {
		st, _ := get[cluster.RolloutStatus](v, cluster.RolloutStatusKey("r1"))
		return st.Failed["h1"].Requests == 2 && st.Failed["h2"].Requests == 1
	}, cluster.StatusPrefix+"rollouts/"); !ok {
		t.Fatal("the counts are not noted")
	}
	for _, key := range []string{cluster.LoadKey("h2"), cluster.HostKey("h2")} {
		if _, err := s.cli.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	if r := shown(); !reflect.DeepEqual(*r.Failed, want) {
		t.Errorf("while h2 is away: %+v", *r.Failed)
	}
}
