package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"bulkhead/cluster"
)

func (s *site) says(want string, args ...string) {
	s.t.Helper()
	if out := s.must(args...); !strings.Contains(out, want) {
		s.t.Errorf("%q does not say %q:\n%s", args, want, out)
	}
}

func TestHostVerbs(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.addHost()
	s.must("tenant", "apply", "-f", s.file("acme.yaml", acmeYAML), "--wait")
	s.says("ready", "host", "list")
	s.says("acme.0: ready", "host", "show", "h1")
	s.says("zone=a", "host", "show", "h1")
	s.fails(exitNotFound, "no host \"h9\"", "host", "show", "h9")
	s.fails(exitNotFound, "no host \"h9\"", "host", "cordon", "h9")
	s.fails(exitInvalid, "host name", "host", "drain", "H_1")

	s.says("cordoned; it has 1 instances", "host", "cordon", "h1", "--reason", "slow disk")
	s.says("slow disk", "host", "list")
	s.says("ready", "host", "uncordon", "h1")

	// Alone there is nowhere to go.
	s.fails(exitLate, "there is nowhere to go, h1 is the only host present", "host", "drain", "h1", "--reason", "new kernel", "--wait", "--timeout", "1s")
	s.says("draining", "status")
	s.says("there is nowhere to go", "host", "show", "h1")
	s.fails(exitFailure, "its agent is there", "host", "rm", "h1")
	s.addHostNamed("h2")
	s.says("host h1 is drained; it has 0 instances", "host", "drain", "h1", "--wait")
	s.says("acme.1 on h2: ready", "tenant", "show", "acme")

	// An agent that stops nothing, or whose host was taken over.
	_, _ = s.cli.Put(t.Context(), cluster.InstanceKey("h1", "acme.0"), `{"tenant": "acme", "instance": "acme.0", "host": "h1", "phase": "ready"}`)
	s.fails(exitLate, "by its agent's word 1 instances are still there", "host", "drain", "h1", "--wait", "--timeout", "1s")
	_, _ = s.cli.Delete(t.Context(), cluster.InstanceKey("h1", "acme.0"))

	_, _ = s.cli.Delete(t.Context(), cluster.HostKey("h1"))
	_, _ = s.cli.Put(t.Context(), cluster.InventoryKey("h1"), `{"labels": {"zone": "b"}}`)
	s.says("drained", "host", "list")
	s.says("nothing is left of it", "host", "rm", "h1")
	s.fails(exitNotFound, "no host", "host", "show", "h1")

	_, _ = s.cli.Delete(t.Context(), cluster.HostKey("h2"))
	s.says("starts elsewhere", "host", "list")
	s.fails(exitFailure, "1 instances are placed on it", "host", "rm", "h2")
	s.says("gone", "host", "rm", "h2", "--force")
}

func TestHostDistrustIsShownAndLifted(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.addHost()
	d, _ := json.Marshal(cluster.Distrust{Reason: "it was lost 3 times within 10m", Until: time.Now().Add(time.Hour), Times: 1})
	if _, err := s.cli.Put(t.Context(), cluster.DistrustKey("h1"), string(d)); err != nil {
		t.Fatal(err)
	}
	s.says("it was lost 3 times", "host", "list")
	s.says("distrusted", "status")
	s.fails(exitLate, "h1 is distrusted until", "tenant", "apply", "-f", s.file("acme.yaml", acmeYAML), "--wait", "--timeout", "1s")
	s.says("ready", "host", "uncordon", "h1")
	s.must("tenant", "apply", "-f", s.file("acme.yaml", acmeYAML), "--wait")
}

func TestStatusSaysThatHostsVanished(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, h := range []string{"h1", "h2", "h3"} {
		s.addHostNamed(h)
	}
	s.must("tenant", "apply", "-f", s.file("acme.yaml", acmeYAML), "--wait")
	_, _ = s.cli.Delete(t.Context(), cluster.HostKey("h1"))
	_, _ = s.cli.Delete(t.Context(), cluster.HostKey("h2"))
	if _, ok := (store{s.cli}).wait(t.Context(), 30*time.Second, func(v *view) bool { return len(v.keys) > 0 }, cluster.HostBrakeKey); !ok {
		t.Fatal("no brake")
	}
	s.says("2 of 3 hosts vanished at once", "status")
}

// A host that was taken over says what it likes, to whoever looks.
func TestWhatAHostSaysDrivesNoTerminal(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	evil := "\x1b[2J\x1b]0;mine\a\u009b1m\nHost       h2\tx\r"
	host, _ := json.Marshal(cluster.Host{Name: "h1", Init: evil, Address: evil, Labels: map[string]string{evil: evil}, Versions: map[string]string{"os": evil}})
	placed, _ := json.Marshal(cluster.Placement{Tenant: "acme", Instance: "acme.0"})
	instance, _ := json.Marshal(cluster.Instance{Tenant: "acme", Instance: "acme.0", Host: "h1", Phase: cluster.Failed, Reason: evil})
	for key, value := range map[string][]byte{
		cluster.HostKey("h1"): host, cluster.PlacementKey("h1", "acme.0"): placed, cluster.InstanceKey("h1", "acme.0"): instance,
		cluster.CordonKey("h1"): []byte(evil),
	} {
		if _, err := s.cli.Put(t.Context(), key, string(value)); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"status"}, {"host", "list"}, {"host", "show", "h1"}} {
		out := s.must(args...)
		if !strings.Contains(out, "mine") || strings.ContainsAny(out, "\x1b\a\r\u009b") || strings.Contains(out, "\nHost       h2") {
			t.Errorf("%q: %q", args, out)
		}
	}
}
