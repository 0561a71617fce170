package agent_test

import (
	"encoding/json"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkhead/agent/docker/dockertest"
	"bulkhead/agent/egress"
	"bulkhead/agent/egress/egresstest"
	"bulkhead/cluster"
)

// try has the code of an instance connect to an address, and returns what
// became of that: empty, it got an answer.
func (s *site) try(instance, network, address string) string {
	s.t.Helper()
	c, err := net.Dial("unix", filepath.Join(s.host.Paths.InstanceDir(instance).Cell(), "control.sock"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	var answer struct{ Error string }
	json.NewEncoder(c).Encode(map[string]string{"op": "try", "network": network, "address": address})
	if err := json.NewDecoder(c).Decode(&answer); err != nil {
		s.t.Fatal(err)
	}
	return answer.Error
}

func (s *site) reaches(instance string, addresses ...string) {
	s.t.Helper()
	for _, a := range addresses {
		if wrong := s.try(instance, "tcp", a); wrong != "" {
			s.t.Errorf("%s does not reach %s: %s", instance, a, wrong)
		}
	}
}

// refused expects the code to be told at once that it can't go there, or that
// there is no such name.
func (s *site) refused(instance string, addresses ...string) {
	s.t.Helper()
	for _, a := range addresses {
		wrong := s.try(instance, "tcp", a)
		if !slices.ContainsFunc([]string{"no route to host", "permission denied", "network is unreachable", "no such host"}, func(s string) bool { return strings.Contains(wrong, s) }) {
			s.t.Errorf("%s is not refused %s: %q", instance, a, wrong)
		}
	}
}

// address is what an instance's container has for an address.
func (s *site) address(instance string) string {
	s.t.Helper()
	var pid string
	i := s.awaitReady(instance)
	out, err := exec.Command("docker", "inspect", "-f", "{{.State.Pid}}", i.Container).Output()
	if err == nil {
		pid = strings.TrimSpace(string(out))
		out, err = exec.Command("nsenter", "-t", pid, "-n", "ip", "-4", "-br", "addr", "show", "eth0").Output()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	fields := strings.Fields(string(out))
	address, _, _ := strings.Cut(fields[len(fields)-1], "/")
	return address
}

func TestCodeReachesWhatItsTenantMayAndNothingElse(t *testing.T) {
	w := egresstest.New(t)
	w.Says("api.example.com.", "A", egresstest.Site2)
	w.Says("rebind.example.com.", "A", egresstest.Site, egresstest.Metadata, egresstest.Private)
	s := newSite(t, "agenttest-egress")
	s.egress = &egress.Config{Name: w.Name, Host: w.HostPath(), Upstream: w.Resolv, Log: s.log}
	s.pool = 1
	s.start()
	image := dockertest.Probe(t)
	open, named, shut := s.placement("open.0", image), s.placement("named.0", image), s.placement("shut.0", image)
	open.Egress = cluster.Egress{Allow: []string{"*"}}
	named.Egress = cluster.Egress{Allow: []string{"*.example.com"}}
	for _, p := range []cluster.Placement{open, named, shut} {
		s.place(p)
		if i := s.awaitReady(p.Instance); i.Network != "" {
			t.Errorf("%s has no network: %s", p.Instance, i.Network)
		}
	}
	s.reaches("open.0", egresstest.Site+":80", "["+egresstest.Site6+"]:80", "api.example.com:80")
	others := s.address("shut.0") + ":80"
	never := []string{
		egresstest.HostPublic + ":22", egresstest.HostPublic + ":2375", egresstest.HostPrivate + ":2379",
		"[" + egresstest.HostPublic6 + "]:2379", "[" + egresstest.HostPrivate6 + "]:22", egresstest.Metadata + ":80", "[" + egresstest.Metadata6 + "]:80",
		egresstest.Private + ":80", "[" + egresstest.Private6 + "]:80", "[::ffff:" + egresstest.Private + "]:80", "172.17.0.9:80",
	}
	s.refused("open.0", append(never, others)...)
	s.refused("named.0", append(never, others, egresstest.Site+":80", egresstest.Site2+":80", "other.org:80")...)
	s.refused("shut.0", append(never, egresstest.Site+":80", "api.example.com:80")...)
	s.reaches("named.0", "api.example.com:80", egresstest.Site2+":80", "rebind.example.com:80")
	s.refused("named.0", "rebind.example.com:80", "rebind.example.com:80")

	// The policy changes under a running container.
	before := s.awaitReady("open.0").Container
	open.Egress.Deny = []string{"8.1.0.0/16"}
	placed := s.place(open)
	if i := s.await("open.0", func(i cluster.Instance, _ bool) bool { return i.Placement == placed }); i.Container != before {
		t.Error("a change of its policy cost an instance its container")
	}
	s.refused("open.0", egresstest.Site+":80")
	s.reaches("open.0", egresstest.Site2+":80")

	// An agent that follows takes over what is there.
	s.stop()
	s.reaches("open.0", egresstest.Site2+":80")
	s.refused("open.0", never...)
	s.start()
	s.awaitReady("open.0")
	s.reaches("open.0", egresstest.Site2+":80")
	s.refused("open.0", append(never, egresstest.Site+":80")...)
	s.reaches("named.0", "api.example.com:80")
}

func TestAHostThatCannotLetCodeOutSaysSo(t *testing.T) {
	w := egresstest.New(t)
	if out, err := exec.Command("ip", "netns", "exec", w.Name+"h", "sysctl", "-w", "net.ipv4.ip_forward=0").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s := newSite(t, "agenttest-noegress")
	s.egress = &egress.Config{Name: w.Name, Host: w.HostPath(), Upstream: w.Resolv, Log: s.log}
	s.start()
	p := s.placement("open.0", dockertest.Probe(t))
	p.Egress = cluster.Egress{Allow: []string{"*"}}
	s.place(p)
	if i := s.awaitReady("open.0"); !strings.Contains(i.Network, "net.ipv4.ip_forward = 1") {
		t.Errorf("its code has no network because %q", i.Network)
	}
	s.refused("open.0", egresstest.Site+":80")
}
