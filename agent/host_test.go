package agent_test

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"bulkhead/agent/docker/dockertest"
	"bulkhead/agent/systemd"
	"bulkhead/cluster"
	"bulkhead/test/host"
)

// TestOnHostWithSystemd runs this package's tests of the whole agent once
// more, on a host where systemd runs the units.
func TestOnHostWithSystemd(t *testing.T) {
	if systemd.Running() {
		t.Skip("this is such a host")
	}
	if testing.Short() {
		t.Skip("boots a host")
	}
	dockertest.Client(t)
	runner, err := buildRunner()
	if err != nil {
		t.Fatal(err)
	}
	image := dockertest.Probe(t)
	h := host.Start(t, "agenttest")
	h.CopyIn(os.Args[0], "/opt/test/agent.test")
	h.CopyIn(runner, "/opt/test/bulkhead-runner")
	h.LoadImage(image)
	out, err := h.Try("env", runnerEnv+"=/opt/test/bulkhead-runner", dockertest.ProbeEnv+"="+image,
		"/opt/test/agent.test", "-test.v", "-test.timeout=120s", "-test.run=^(TestPlacement|TestAgent)")
	t.Log(out)
	if err != nil {
		status, _ := h.Try("journalctl", "--no-pager", "--lines=50", "--unit=bulkhead-*")
		t.Errorf("tests on the host: %v\n%s", err, status)
	}
}

// TestAgentGoesOnWhileDockerIsAway stops the host's Docker, whose containers
// go on (live-restore), and starts another agent meanwhile.
func TestAgentGoesOnWhileDockerIsAway(t *testing.T) {
	if !systemd.Running() {
		t.Skip("would stop this machine's Docker")
	}
	s := newSite(t, "agenttest-blind")
	s.start()
	p := s.placement("blind.0", dockertest.Probe(t))
	s.place(p)
	before := s.awaitReady("blind.0")
	systemctl(t, "stop", "docker.socket", "docker.service")
	t.Cleanup(func() { systemctl(t, "start", "docker.service") })
	s.stop()
	at := s.revision()
	s.start()
	s.awaitTakenOver("blind.0", at)
	if status := s.call("blind.0"); status != 401 {
		t.Errorf("status %d without Docker, want 401", status)
	}
	p.Keys[0].KID = "rotated"
	placed := s.place(p)
	s.await("blind.0", func(i cluster.Instance, _ bool) bool { return i.Placement == placed && i.Phase == cluster.Ready })
	systemctl(t, "start", "docker.service")
	now := s.await("blind.0", func(i cluster.Instance, _ bool) bool { return i.Container != "" && i.Phase == cluster.Ready })
	if now.Container != before.Container {
		t.Errorf("the container was %.12s and is %.12s", before.Container, now.Container)
	}
}

func systemctl(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("systemctl", args...).CombinedOutput(); err != nil {
		t.Fatalf("systemctl %v: %v: %s", args, err, out)
	}
}

// TestAgentOpensASocketThatSomebodyClosed has nothing but systemd's signals
// to go by: its agent's next look of its own accord is an hour away.
func TestAgentOpensASocketThatSomebodyClosed(t *testing.T) {
	if !systemd.Running() {
		t.Skip("needs systemd")
	}
	s := newSite(t, "agenttest-closed")
	s.tick = time.Hour
	s.start()
	s.place(s.placement("closed.0", dockertest.Probe(t)))
	s.awaitReady("closed.0")
	systemctl(t, "stop", "bulkhead-closed-0.socket")
	s.awaitSocket("closed.0")
	if status := s.call("closed.0"); status != 401 {
		t.Errorf("status %d, want 401", status)
	}
}
