package docker

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"bulkhead/agent/cells"
	"bulkhead/agent/docker/dockertest"
)

const testUID = 499001

// open returns an engine, or skips where there is none.
func open(t *testing.T, host string) *Engine {
	t.Helper()
	dockertest.Client(t)
	e, err := Open(host, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func testSpec(t *testing.T, image string) cells.ContainerSpec {
	cell := t.TempDir()
	if err := errors.Join(os.Chown(cell, testUID, testUID), os.Chmod(cell, 0o711)); err != nil {
		t.Skipf("needs root: %v", err)
	}
	for d := filepath.Dir(cell); d != "/tmp" && d != "/"; d = filepath.Dir(d) {
		os.Chmod(d, 0o711)
	}
	t.Cleanup(func() { // the engine makes slices, and leaves them
		for _, slice := range []string{"bulkhead-dockertest.slice/bulkhead-dockertest-0.slice", "bulkhead-dockertest.slice", ""} {
			dirs, _ := filepath.Glob("/sys/fs/cgroup/*/bulkhead.slice/" + slice)
			for _, dir := range dirs {
				syscall.Rmdir(dir)
			}
		}
	})
	return cells.ContainerSpec{
		Cell: "test" + filepath.Base(cell), Kind: cells.Kind{Image: image}, UID: testUID,
		Tmp: 1 << 20, Dir: cell, Slice: "bulkhead-dockertest-0.slice",
		Limits: cells.Limits{Memory: 64 << 20, CPU: 5e8, Pids: 32},
	}
}

// ask waits for the probe to listen, and returns what it says about itself.
func ask(t *testing.T, socket string) map[string]any {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		c, err := net.Dial("unix", socket)
		if err == nil {
			defer c.Close()
			var facts map[string]any
			if err := json.NewDecoder(c).Decode(&facts); err != nil {
				t.Fatal(err)
			}
			return facts
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func TestContainerIsConfined(t *testing.T) {
	e := open(t, "dockertest-confined")
	s := testSpec(t, dockertest.Probe(t))
	made, err := e.Create(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	id := made.ID
	defer e.Remove(t.Context(), id)
	facts := ask(t, filepath.Join(s.Dir, "control.sock"))
	for k, want := range map[string]any{
		"uid": float64(testUID), "gid": float64(testUID),
		"CapEff": "0000000000000000", "CapBnd": "0000000000000000", "NoNewPrivs": "1", "Seccomp": "2",
		"root": false, "tmp": true, "tmpfull": false,
	} {
		if facts[k] != want {
			t.Errorf("%s is %v in the container, want %v", k, facts[k], want)
		}
	}
	if tells, ok := facts["tells"].([]any); !ok || len(tells) > 0 {
		t.Errorf("these tell of the host: %v", facts["tells"])
	}
	if links := facts["links"].([]any); len(links) != 1 || links[0] != "lo" {
		t.Errorf("network links in the container: %v, want lo alone", links)
	}
}

func TestContainersAreFoundResizedAndRemoved(t *testing.T) {
	e := open(t, "dockertest-list")
	s := testSpec(t, dockertest.Probe(t))
	made, err := e.Create(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	id := made.ID
	defer e.Remove(t.Context(), id)
	want := cells.Container{ID: id, Cell: s.Cell, Image: s.Image, Running: true, PID: made.PID, Status: "running", Limits: s.Limits}
	wantOnly(t, e, want)

	s.Limits = cells.Limits{Memory: 96 << 20, CPU: 1e9, Pids: 48}
	if err := e.Resize(t.Context(), id, s.Limits); err != nil {
		t.Fatal(err)
	}
	want.Limits = s.Limits
	wantOnly(t, e, want)

	if others, err := open(t, "dockertest-other").List(t.Context()); err != nil || len(others) != 0 {
		t.Errorf("another host lists %v (error %v), want none", others, err)
	}
	if err := e.Remove(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	wantOnly(t, e)
	if err := e.Remove(t.Context(), id); err != nil {
		t.Errorf("removing what is gone: %v", err)
	}
}

func wantOnly(t *testing.T, e *Engine, want ...cells.Container) {
	t.Helper()
	got, err := e.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) || len(got) == 1 && got[0] != want[0] {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestDeathIsNoticedWithItsCause(t *testing.T) {
	e := open(t, "dockertest-death")
	s := testSpec(t, dockertest.Probe(t, "exit"))
	made, err := e.Create(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	id := made.ID
	defer e.Remove(t.Context(), id)
	for {
		select {
		case <-e.Events():
		case <-t.Context().Done():
			t.Fatal("no event")
		}
		cs, err := e.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(cs) == 1 && !cs[0].Running && strings.Contains(cs[0].Status, "code 3") {
			return
		}
	}
}

func TestMissingImageIsSaidSo(t *testing.T) {
	e := open(t, "dockertest-image")
	missing := "sha256:" + strings.Repeat("0", 64)
	if _, err := e.Create(t.Context(), testSpec(t, missing)); !errors.Is(err, cells.ErrNoImage) {
		t.Errorf("got error %v, want ErrNoImage", err)
	}
	if has, err := e.HasImage(t.Context(), missing); has || err != nil {
		t.Errorf("HasImage: %v, %v", has, err)
	}
}
