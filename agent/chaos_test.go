package agent_test

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/agent"
	"bulkhead/agent/docker/dockertest"
	"bulkhead/agent/systemd"
	"bulkhead/cluster"
)

// TestAgentKilledAnywhereEndsUpAsDesired places and removes instances at
// random while agents are killed after a random number of their log lines.
// The last one has to end up with what is desired then, and nothing else.
func TestAgentKilledAnywhereEndsUpAsDesired(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a while")
	}
	seed := rand.Uint64()
	if text := os.Getenv("BULKHEAD_TEST_SEED"); text != "" {
		seed, _ = strconv.ParseUint(text, 10, 64)
	}
	t.Logf("BULKHEAD_TEST_SEED=%d does the same again", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	s := newSite(t, "agenttest-chaos")
	image := dockertest.Probe(t)
	all := []string{"chaos.0", "chaos.1", "storm.0"}
	rounds := 8
	if systemd.Running() {
		rounds = 3 // which reloads for every change
	}
	for range rounds {
		for _, i := range all {
			if r.IntN(2) == 0 {
				s.place(s.placement(i, image))
			} else {
				s.unplace(i)
			}
		}
		a := s.startProcess()
		for range r.IntN(14) {
			select {
			case <-a.lines:
			case <-time.After(time.Second): // it has nothing left to do
			}
			if r.IntN(6) == 0 {
				s.tickle(all[r.IntN(len(all))])
			}
		}
		a.kill()
	}
	s.unplace("chaos.0")
	s.unplace("storm.0")
	s.place(s.placement("chaos.1", image))
	s.start()
	s.awaitReady("chaos.1")
	for _, i := range []string{"chaos.0", "storm.0"} {
		s.await(i, func(_ cluster.Instance, there bool) bool { return !there })
	}
	if status := s.call("chaos.1"); status != 401 {
		t.Errorf("status %d, want 401", status)
	}
	s.wantOnly("chaos.1", "bulkhead-chaos-1.service", "bulkhead-chaos-1.slice", "bulkhead-chaos-1.socket", "bulkhead-chaos.slice")
}

// unplace removes a placement and the instance's own units.
func (s *site) unplace(instance string) {
	s.t.Helper()
	tenant, n, err := cluster.ParseInstance(instance)
	if err != nil {
		s.t.Fatal(err)
	}
	host := s.host.Name
	_, err = s.etcd.Txn(s.t.Context()).Then(
		clientv3.OpDelete(cluster.PlacementKey(host, instance)),
		clientv3.OpDelete(cluster.UnitKey(host, cluster.RunnerSocket(tenant, n))),
		clientv3.OpDelete(cluster.UnitKey(host, cluster.RunnerService(tenant, n))),
		clientv3.OpDelete(cluster.UnitKey(host, cluster.InstanceSlice(tenant, n))),
	).Commit()
	if err != nil {
		s.t.Fatal(err)
	}
}

// tickle changes a tenant's function, so that runners are told.
func (s *site) tickle(instance string) {
	tenant, _, _ := cluster.ParseInstance(instance)
	s.deliver(tenant, cluster.Function{File: "hello.js", Code: "// " + strconv.Itoa(rand.Int())})
}

// wantOnly fails unless one instance, with these units, is all there is.
func (s *site) wantOnly(instance string, units ...string) {
	s.t.Helper()
	s.awaitContainers(1)
	states, err := s.services.States(s.t.Context(), "bulkhead-")
	var names []string
	for _, u := range states {
		if u.Name != agent.CellsSlice { // Docker's doing, where systemd has slices
			names = append(names, u.Name)
		}
	}
	slices.Sort(names)
	if err != nil || !slices.Equal(names, units) {
		s.t.Errorf("units: %v (error %v), want %v", names, err, units)
	}
	dirs, err := os.ReadDir(filepath.Join(s.host.Paths.Run, "instances"))
	if err != nil || len(dirs) != 1 || dirs[0].Name() != instance {
		s.t.Errorf("directories: %v (error %v), want %s", dirs, err, instance)
	}
}
