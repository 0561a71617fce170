package agent_test

import (
	"encoding/json"
	"errors"
	"maps"
	"net"
	"os"
	"path/filepath"
	"testing"

	"bulkhead/agent/docker/dockertest"
	"bulkhead/cluster"
	"bulkhead/internal/etcd"
	"bulkhead/internal/tally"
	"bulkhead/internal/waking"
)

func TestAgentPassesOnHowBusyRunnersAre(t *testing.T) {
	s := newSite(t, "agenttest-load")
	s.start()
	s.place(s.placement("busy.0", dockertest.Probe(t)))
	s.awaitReady("busy.0")
	door, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: filepath.Join(s.host.Paths.InstanceDir("busy.0").Agent(), waking.Socket), Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	defer door.Close()
	watch := etcd.Watch(t.Context(), s.etcd, cluster.LoadKey(s.host.Name))
	<-watch
	for _, c := range []struct {
		sentence string
		say      float64
		want     map[string]float64
	}{
		{"a runner that is busy", 3.5, map[string]float64{"busy.0": 3.5}},
		{"one that is no more", 0, nil},
	} {
		if err := waking.Send(door, waking.Ask{Op: waking.Load, Load: c.say}); err != nil {
			t.Fatal(err)
		}
		var got cluster.Load
		e := (<-watch).Events[0]
		if !e.Deleted {
			if err := json.Unmarshal(e.Value, &got); err != nil {
				t.Fatal(err)
			}
		}
		if !maps.Equal(got.Instances, c.want) {
			t.Errorf("%s: etcd says %v, want %v", c.sentence, got.Instances, c.want)
		}
	}
}

func TestAgentPassesOnHowManyRequestsFailed(t *testing.T) {
	s := newSite(t, "agenttest-failed")
	dir := t.TempDir() // the proxy's own
	s.failures = filepath.Join(dir, "failures")
	s.start()
	watch := etcd.Watch(t.Context(), s.etcd, cluster.LoadKey(s.host.Name))
	if b := <-watch; len(b.Events) > 0 {
		t.Errorf("although nothing is counted, etcd says %s", b.Events[0].Value)
	}
	count := func(n int64) func() error { return func() error { return tally.Add(s.failures, n) } }
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("42"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		sentence string
		do       func() error
		want     int64 // -1: nothing is said
	}{
		{"none yet", count(0), 0},
		{"two", count(2), 2},
		{"three more", count(3), 5},
		{"a link to a file of root's", func() error {
			return errors.Join(os.Remove(s.failures), os.Symlink(secret, s.failures))
		}, -1},
		{"begun anew", count(1), 1},
	} {
		if err := c.do(); err != nil {
			t.Fatal(err)
		}
		got, e := int64(-1), (<-watch).Events[0]
		if !e.Deleted {
			var load cluster.Load
			if err := json.Unmarshal(e.Value, &load); err != nil || load.Failed == nil {
				t.Fatalf("%s: %s, %v", c.sentence, e.Value, err)
			}
			got = *load.Failed
		}
		if got != c.want {
			t.Errorf("%s: etcd says %d, want %d", c.sentence, got, c.want)
		}
	}
}
