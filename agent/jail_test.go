package agent_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"bulkhead/agent/docker/dockertest"
)

// TestAgentsRunnersAreJailed looks at a real runner from outside, whoever
// jailed it: systemd or the supervisor.
func TestAgentsRunnersAreJailed(t *testing.T) {
	s := newSite(t, "agenttest-jail")
	s.start()
	s.place(s.placement("jail.0", dockertest.Probe(t)))
	s.awaitReady("jail.0")
	if status := s.call("jail.0"); status != 401 {
		t.Fatalf("status %d, want 401", status)
	}
	proc := fmt.Sprintf("/proc/%d/", s.runnerPID("bulkhead-jail-0.service"))
	status, err := os.ReadFile(proc + "status")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2", "Umask:\t0077"} {
		if !strings.Contains(string(status), want) {
			t.Errorf("the runner's status lacks %q", want)
		}
	}
	if strings.Contains(string(status), "Uid:\t0\t") {
		t.Error("the runner is root")
	}
	for _, ns := range []string{"mnt", "net", "ipc", "uts"} {
		ours, _ := os.Readlink("/proc/self/ns/" + ns)
		if its, err := os.Readlink(proc + "ns/" + ns); err != nil || its == ours {
			t.Errorf("its %s namespace is %s, ours %s (error %v)", ns, its, ours, err)
		}
	}
	// systemd makes more mount points than a runner sees anything below.
	allowed := []string{"agent", "cell", "dev", "functions", "proc", "root", "run", "runner", "sys", "tmp", "var", "home", "etc", "usr"}
	entries, err := os.ReadDir(proc + "root")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !slices.Contains(allowed, e.Name()) {
			t.Errorf("its root holds %s", e.Name())
		}
	}
	for _, path := range []string{"root/etc/passwd", "root/usr/bin", "root/bin/sh", "root/sys/kernel", "root/run/docker.sock"} {
		if _, err := os.Stat(proc + path); err == nil {
			t.Errorf("it sees %s", strings.TrimPrefix(path, "root"))
		}
	}
	for _, file := range []string{"environ", "cmdline"} {
		if text, err := os.ReadFile(proc + file); err != nil || strings.Contains(string(text), "ssssssss") {
			t.Errorf("its %s holds the tenant's secret (error %v)", file, err)
		}
	}
}
