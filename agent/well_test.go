package agent_test

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"bulkhead/agent/docker/dockertest"
	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// unready waits until the host says so of itself.
func (s *site) unready(want string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	var last cluster.Host
	for b := range etcd.Watch(ctx, s.etcd, cluster.HostKey(s.host.Name)) {
		for _, e := range b.Events {
			last = cluster.Host{}
			if !e.Deleted && json.Unmarshal(e.Value, &last) == nil && last.Unready == want {
				return
			}
		}
	}
	s.t.Fatalf("not within 30 s: it says %q, want %q", last.Unready, want)
}

func TestAgentSaysWhyItsHostIsNotWell(t *testing.T) {
	s := newSite(t, "agenttest-well")
	s.pool = 1
	s.host.Image = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
	s.start()
	s.unready("its blank cells are not ready yet")
	s.stop()
	s.host.Image = dockertest.Probe(t)
	s.proxy = []string{"bulkhead-proxy.service"}
	s.start()
	s.unready("its proxy does not run")
	s.stop()
	s.proxy = nil
	s.start()
	s.unready("")
}
