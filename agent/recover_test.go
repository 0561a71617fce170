package agent_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"bulkhead/agent/docker/dockertest"
	"bulkhead/cluster"
)

func TestAgentTellsRunnersOfNewFunctionsAndKeys(t *testing.T) {
	s := newSite(t, "agenttest-functions")
	s.start()
	p := s.placement("told.0", dockertest.Probe(t))
	s.place(p)
	s.awaitReady("told.0")
	s.call("told.0") // wakes the runner

	fn := cluster.Function{File: "hello.js", Code: "module.exports = cb => cb(null, 1)"}
	began := time.Now()
	revision := s.deliver("told", fn)
	s.await("told.0", func(i cluster.Instance, _ bool) bool { return i.Functions >= revision })
	t.Logf("from a function's key to the runner's word that it has it: %s", time.Since(began))
	dir := s.host.Paths.InstanceDir("told.0")
	var written cluster.Function
	data, err := os.ReadFile(filepath.Join(dir.Functions(), "hello.json"))
	if err == nil {
		err = json.Unmarshal(data, &written)
	}
	if err != nil || written.Version != fn.Digest() || written.Code != fn.Code {
		t.Errorf("the runner sees %+v (error %v)", written, err)
	}
	if told, err := os.ReadFile(filepath.Join(dir.Private(), "told")); err != nil || len(told) == 0 {
		t.Errorf("the runner did not confirm: %v", err)
	}

	revision = s.deliver("told")
	s.await("told.0", func(i cluster.Instance, _ bool) bool { return i.Functions >= revision })
	if left, _ := os.ReadDir(dir.Functions()); len(left) > 0 {
		t.Errorf("the function's file is still there: %v", left)
	}

	p.Keys[0].KID = "rotated"
	placed := s.place(p)
	s.await("told.0", func(i cluster.Instance, _ bool) bool { return i.Placement == placed && i.Phase == cluster.Ready })
	info, err := os.Stat(dir.Keys())
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("keys.json: %v, error %v; want mode 600", info, err)
	}
}

func TestAgentKeepsTheLastGoodOfWhatIsInvalid(t *testing.T) {
	s := newSite(t, "agenttest-invalid")
	s.start()
	s.place(s.placement("good.0", dockertest.Probe(t)))
	before := s.awaitReady("good.0")
	for _, garbage := range []string{"{", `{"tenant":"other","instance":"good.0"}`, strings.Repeat("x", 1<<20)} {
		s.put(cluster.PlacementKey(s.host.Name, "good.0"), garbage)
	}
	s.put(cluster.UnitKey(s.host.Name, "ssh.service"), "[Service]\nExecStart=/bin/evil")
	// What comes after it is done shows that the garbage has been read.
	s.place(s.placement("good.1", dockertest.Probe(t)))
	s.awaitReady("good.1")
	if now := s.awaitReady("good.0"); now.Container != before.Container {
		t.Errorf("the instance was made anew: %.12s, then %.12s", before.Container, now.Container)
	}
}

func TestAgentGivesOneBadInstanceNoHoldOnOthers(t *testing.T) {
	s := newSite(t, "agenttest-bad")
	s.start()
	s.place(s.placement("bad.0", "sha256:"+strings.Repeat("0", 64)))
	bad := s.await("bad.0", func(i cluster.Instance, _ bool) bool { return i.Phase == cluster.Failed })
	if !strings.Contains(bad.Reason, "image") {
		t.Errorf("its reason is %q, want it to speak of the image", bad.Reason)
	}
	s.place(s.placement("fine.0", dockertest.Probe(t)))
	s.awaitReady("fine.0")
}

func TestAgentReplacesACellThatDies(t *testing.T) {
	s := newSite(t, "agenttest-dies")
	s.start()
	s.place(s.placement("dies.0", dockertest.Probe(t)))
	before := s.awaitReady("dies.0")
	pid := func() int { s.call("dies.0"); return s.runnerPID("bulkhead-dies-0.service") }
	runner := pid()
	if err := s.engine.Remove(t.Context(), before.Container); err != nil {
		t.Fatal(err)
	}
	s.await("dies.0", func(i cluster.Instance, _ bool) bool {
		return i.Phase == cluster.Ready && i.Container != before.Container
	})
	if now := pid(); now != runner {
		t.Errorf("the runner was process %d and is %d: it should have stayed", runner, now)
	}
}

func TestAgentWithoutEtcdMendsAndStartsFromDisk(t *testing.T) {
	s := newSite(t, "agenttest-alone")
	s.start()
	s.deliver("alone", cluster.Function{File: "hello.js", Code: "module.exports = cb => cb(null, 1)"})
	s.place(s.placement("alone.0", dockertest.Probe(t)))
	before := s.awaitReady("alone.0")
	s.server.Close()

	if err := s.engine.Remove(t.Context(), before.Container); err != nil {
		t.Fatal(err)
	}
	made := s.awaitContainer(before.Container)
	if status := s.call("alone.0"); status != 401 {
		t.Errorf("status %d without etcd, want 401", status)
	}

	// A reboot: what was running and what was in run/ is gone.
	s.stop()
	s.open()
	for _, name := range []string{"bulkhead-alone-0.socket", "bulkhead-alone-0.service", "bulkhead-alone-0.slice", "bulkhead-alone.slice"} {
		if err := s.services.Remove(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.engine.Remove(t.Context(), made); err != nil {
		t.Fatal(err)
	}
	s.close()
	mounts, _ := filepath.Glob(filepath.Join(s.host.Paths.Run, "cells", "*", "cell"))
	for _, path := range append(mounts, s.host.Paths.InstanceDir("alone.0").Cell()) {
		unix.Unmount(path, unix.MNT_DETACH)
	}
	if err := os.RemoveAll(s.host.Paths.Run); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.awaitContainer(made)
	s.awaitSocket("alone.0")
	if status := s.call("alone.0"); status != 401 {
		t.Errorf("status %d after a reboot without etcd, want 401", status)
	}
	if _, err := os.Stat(filepath.Join(s.host.Paths.InstanceDir("alone.0").Functions(), "hello.json")); err != nil {
		t.Errorf("the function did not come back: %v", err)
	}
}

// awaitContainer waits for a running container other than one, by the
// engine's events.
func (s *site) awaitContainer(other string) string {
	s.t.Helper()
	for {
		cs, err := s.engine.List(s.t.Context())
		if err != nil {
			s.t.Fatal(err)
		}
		for _, c := range cs {
			if c.Running && c.ID != other {
				return c.ID
			}
		}
		s.pause()
	}
}

// awaitSocket waits until an instance's runner can be reached.
func (s *site) awaitSocket(instance string) {
	s.t.Helper()
	for {
		if _, err := os.Stat(s.host.Paths.InstanceDir(instance).Socket()); err == nil {
			return
		}
		s.pause()
	}
}
