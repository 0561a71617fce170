package host

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"bulkhead/cluster"
)

// failing makes a release out of these sources with a call in one of them
// replaced: it says that it is what, and nothing else of it differs.
func (c *Fleet) failing(source, call, what string) string {
	c.t.Helper()
	root, err := filepath.Abs(fleetRoot())
	if err != nil {
		c.t.Fatal(err)
	}
	source = filepath.Join(root, source)
	text, err := os.ReadFile(source)
	if err != nil {
		c.t.Fatal(err)
	}
	changed := bytes.Replace(text, []byte(call), []byte(`fail(exitFailure, "go back", "`+what+`")`), 1)
	if bytes.Equal(text, changed) {
		c.t.Fatalf("%s does not call %s", source, call)
	}
	dir := c.t.TempDir()
	overlay, _ := json.Marshal(map[string]any{"Replace": map[string]string{source: filepath.Join(dir, "source.go")}})
	for name, data := range map[string][]byte{"source.go": changed, "overlay.json": overlay} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			c.t.Fatal(err)
		}
	}
	binary := filepath.Join(dir, "bulkhead")
	build := exec.CommandContext(c.t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-overlay", filepath.Join(dir, "overlay.json"), "-o", binary, "./cmd/bulkhead")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		c.t.Fatalf("%v: %v\n%s", build, err, out)
	}
	return c.releaseOf(func(name string, data []byte) []byte {
		if name != "bulkhead" {
			return data
		}
		data, err := os.ReadFile(binary)
		if err != nil {
			c.t.Fatal(err)
		}
		return data
	})
}

// stops begins a rollout of a release that is to stop, and returns why it did.
func (o *ordered) stops(c *Fleet, id, release string) string {
	o.t.Helper()
	began := time.Now()
	c.Bulkhead("rollout", "start", "--id", id, "--steady", "1s", "--watch-for", "1s", "--back", "3m", "agent", "--release", release)
	s := await(o.t, o.etcd, cluster.RolloutStatusKey(id), 5*time.Minute, func(s cluster.RolloutStatus) bool {
		if s.Phase == cluster.RolloutDone {
			o.t.Fatalf("rollout %s is done", id)
		}
		return s.Phase == cluster.RolloutStopped
	})
	o.t.Logf("rollout %s stopped after %v: %s", id, time.Since(began).Round(time.Second), s.Reason)
	return s.Reason
}

// A release whose agent or scheduler fails is taken back by the host itself,
// and the rollout says why.
func TestReleaseThatFailsIsTakenBack(t *testing.T) {
	c := Cluster(t, 1)
	o := &ordered{Host: c.Hosts[0], t: t, etcd: c.Client()}
	first := o.present()
	noAgent := c.failing("cmd/bulkhead/agent.go", "a.runAgent(cmd.Context(), o)", "no agent today")
	noScheduler := c.failing("cmd/bulkhead/scheduler.go", "a.runScheduler(cmd.Context(), name)", "no scheduler today")
	next := c.release(false)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error)
	go func() { served <- c.fleet.Serve(ctx) }()

	for _, failing := range []struct{ release, unit, says string }{
		{noAgent, "bulkhead-agent.service", "no agent today"},
		{noScheduler, "bulkhead-scheduler.service", "no scheduler today"},
	} {
		reason := o.stops(c, strings.ReplaceAll(failing.says, " ", "-"), failing.release)
		for _, want := range []string{failing.unit + " failed 5 times", "exit-code (exited 1)", failing.says, "went back to " + first.Versions[cluster.Release]} {
			if !strings.Contains(reason, want) {
				t.Errorf("%q does not say %q", reason, want)
			}
		}
		o.is(first.Versions[cluster.Release])
	}
	// Without a release on trial, an agent that fails is started for ever.
	for range 7 {
		pid := o.Exec("systemctl", "show", "--property=MainPID", "--value", "bulkhead-agent.service")
		o.Exec("systemctl", "kill", "--signal=KILL", "bulkhead-agent.service")
		o.another(pid)
	}
	o.is(first.Versions[cluster.Release])

	o.rollOut(c, "good", "agent", "--release", next)
	cancel()
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	o.is(next)
	o.ready(true)
}

// another waits until the agent is another process than that.
func (o *ordered) another(pid string) {
	o.t.Helper()
	o.until("the agent", `now=$(systemctl show --property=MainPID --value bulkhead-agent.service); [ "$now" != 0 ] && [ "$now" != `+strings.TrimSpace(pid)+` ]`)
}

// until waits until a condition of the shell's holds on the host: systemd tells
// nobody outside.
func (o *ordered) until(what, condition string) {
	o.t.Helper()
	if _, err := o.Try("timeout", "60", "sh", "-c", "until "+condition+"; do sleep 0.1; done"); err != nil {
		o.t.Fatalf("%s on host %s: not so within a minute: %s", what, o.Node, condition)
	}
}

// is waits until the host is this release in all its parts, and no other is on
// trial.
func (o *ordered) is(release string) {
	o.t.Helper()
	await(o.t, o.etcd, cluster.HostKey(o.Node), time.Minute, func(h cluster.Host) bool {
		return h.Versions[cluster.Release] == release && h.Unready == ""
	})
	want := "/opt/bulkhead/releases/" + cluster.ReleaseDir(release) + "/bulkhead\n"
	for _, unit := range []string{"bulkhead-agent", "bulkhead-scheduler"} {
		o.until(unit, "systemctl is-active --quiet "+unit)
		if got := o.Exec("sh", "-c", "readlink /proc/$(systemctl show --property MainPID --value "+unit+")/exe"); got != want {
			o.t.Errorf("%s is %s, want %s", unit, got, want)
		}
	}
	if there, err := o.Try("readlink", "/opt/bulkhead/before"); err == nil {
		o.t.Errorf("%s is still there to go back to", strings.TrimSpace(there))
	}
}
