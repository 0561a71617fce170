package agent_test

import (
	"encoding/json"
	"maps"
	"net"
	"path/filepath"
	"testing"

	"bulkhead/agent/docker/dockertest"
	"bulkhead/cluster"
	"bulkhead/internal/etcd"
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
