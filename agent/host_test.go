package agent_test

import (
	"os"
	"testing"

	"bulkhead/agent/docker/dockertest"
	"bulkhead/agent/systemd"
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
