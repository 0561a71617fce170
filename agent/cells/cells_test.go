package cells_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"golang.org/x/sys/unix"

	"bulkhead/agent/cells"
	"bulkhead/agent/docker"
	"bulkhead/agent/docker/dockertest"
	"bulkhead/internal/allot"
)

// house is a host's cells, on a real engine; their image is the probe.
type house struct {
	*cells.Cells
	t      *testing.T
	config cells.Config
	engine *docker.Engine
	dir    string
	image  string
	woken  chan struct{}
	stop   func()
}

var plain = cells.Limits{Memory: 64 << 20, CPU: 5e8, Pids: 32}

func newHouse(t *testing.T, name string, pool cells.Pool) *house {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	image := dockertest.Probe(t)
	dir, err := os.MkdirTemp("", "bh") // t.TempDir's paths are too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o711)
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	engine, err := docker.Open("cellstest-"+name, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { engine.Close() })
	uids, err := allot.Open(filepath.Join(dir, "uids.json"), 480000, 480999)
	if err != nil {
		t.Fatal(err)
	}
	h := &house{t: t, engine: engine, dir: dir, image: image, woken: make(chan struct{}, 1)}
	h.config = cells.Config{
		Dir: filepath.Join(dir, "cells"), Slice: "bulkhead-_cellstest.slice", Engine: engine, UIDs: uids, Log: log,
		Blank: cells.Spec{Limits: plain, Tmp: 4 << 20}, Pool: pool, Notify: func() {},
	}
	h.open()
	t.Cleanup(func() {
		h.stop()
		if err := h.RemoveAll(context.Background()); err != nil {
			t.Error(err)
		}
		groups, _ := filepath.Glob("/sys/fs/cgroup/*/bulkhead.slice/bulkhead-_cellstest.slice")
		for _, g := range groups {
			unix.Rmdir(g)
		}
	})
	return h
}

// open begins as an agent does that starts.
func (h *house) open() {
	h.t.Helper()
	all, err := cells.Open(h.config)
	if err != nil {
		h.t.Fatal(err)
	}
	h.Cells = all
	all.Blank(h.image)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); all.Keep(ctx) }()
	h.stop = sync.OnceFunc(func() { cancel(); <-done })
}

// look is what the agent does at each of its rounds.
func (h *house) look() []cells.Container {
	h.t.Helper()
	asked := time.Now()
	list, err := h.engine.List(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	h.Saw(list, asked)
	return list
}

// await looks until it is so.
func (h *house) await(what string, so func([]cells.Container) bool) {
	h.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !so(h.look()) {
		if time.Now().After(deadline) {
			h.t.Fatalf("not within 30 s: %s", what)
		}
		select {
		case <-h.engine.Events():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (h *house) spec(instance string) cells.Spec {
	at := filepath.Join(h.dir, instance)
	if err := os.MkdirAll(at, 0o711); err != nil {
		h.t.Fatal(err)
	}
	return cells.Spec{Kind: cells.Kind{Image: h.image}, Limits: plain, Tmp: 4 << 20, At: at}
}

func (h *house) take(instance string) cells.Cell {
	h.t.Helper()
	c, err := h.Take(h.t.Context(), instance, h.spec(instance))
	if err != nil {
		h.t.Fatal(err)
	}
	return c
}

// blank counts containers that are nobody's, and frozen.
func blank(n int) func([]cells.Container) bool {
	return func(list []cells.Container) bool {
		frozen := 0
		for _, k := range list {
			if c := (cells.Cell{PID: k.PID}); c.Frozen() {
				frozen++
			}
		}
		return frozen == n
	}
}

func TestBlankCellBecomesAnInstancesForLife(t *testing.T) {
	h := newHouse(t, "life", cells.Pool{Min: 1, Max: 2})
	h.await("a blank cell waits, frozen", blank(1))
	ready := h.look()[0]

	s := h.spec("acme.0")
	s.Limits, s.Tmp = cells.Limits{Memory: 96 << 20, CPU: 1e9, Pids: 48}, 1<<20
	c, err := h.Take(t.Context(), "acme.0", s)
	if err != nil {
		t.Fatal(err)
	}
	if c.Container != ready.ID {
		t.Errorf("it got container %.12s, and %.12s was ready", c.Container, ready.ID)
	}
	if c.Frozen() || !c.Answers() {
		t.Error("what it got is frozen, or does not answer")
	}
	checked := 0
	for file, want := range map[string]string{
		"memory/memory.limit_in_bytes": "100663296", "memory.max": "100663296",
		"cpu/cpu.cfs_quota_us": "100000", "cpu.max": "100000 100000", "pids/pids.max": "48", "pids.max": "48",
	} {
		found, _ := filepath.Glob("/sys/fs/cgroup/" + filepath.Dir(file) + "/bulkhead.slice/bulkhead-_cellstest.slice/" + c.Container + "/" + filepath.Base(file))
		for _, f := range found {
			checked++
			if got, _ := os.ReadFile(f); strings.TrimSpace(string(got)) != want {
				t.Errorf("%s is %s, want %s", f, got, want)
			}
		}
	}
	if checked < 3 {
		t.Errorf("only %d limits were to be seen in its cgroup", checked)
	}
	var tmp unix.Statfs_t
	if err := unix.Statfs(fmt.Sprintf("/proc/%d/root/tmp", c.PID), &tmp); err != nil || int64(tmp.Blocks)*tmp.Bsize != s.Tmp {
		t.Errorf("/tmp holds %d bytes (error %v), want %d", int64(tmp.Blocks)*tmp.Bsize, err, s.Tmp)
	}
	if _, err := os.Stat(filepath.Join(s.At, "control.sock")); err != nil {
		t.Errorf("its directory is not to be seen where it was asked for: %v", err)
	}
	if again := h.take("acme.0"); again.ID != c.ID {
		t.Errorf("asked again it gets cell %s, and has %s", again.ID, c.ID)
	}
	if other := h.take("globex.0"); other.ID == c.ID {
		t.Error("two instances have one cell")
	}

	h.Release("acme.0")
	h.await("its container is gone", func(list []cells.Container) bool {
		for _, k := range list {
			if k.ID == c.Container {
				return false
			}
		}
		return true
	})
	if _, err := os.Stat(filepath.Join(s.At, "control.sock")); err == nil {
		t.Error("the directory of a cell that is gone is still to be seen")
	}
	if next := h.take("acme.0"); next.ID == c.ID {
		t.Error("an instance got a cell back that it had given up")
	}
}

func TestAgentThatStartsFindsCellsAsTheyWere(t *testing.T) {
	h := newHouse(t, "again", cells.Pool{Min: 1, Max: 1})
	mine := h.take("acme.0")
	h.await("a blank cell waits, frozen", blank(1))
	h.stop()
	h.open()
	if err := h.AwaitStock(t.Context(), h.image); err != nil {
		t.Errorf("after a restart there are no blank cells: %v", err)
	}
	h.look()
	if now, ok := h.Of("acme.0"); !ok || now.ID != mine.ID {
		t.Errorf("after a restart the instance has %q, and had %q", now.ID, mine.ID)
	}
	if got := h.take("globex.0"); got.ID == mine.ID {
		t.Error("after a restart another instance gets a cell that is taken")
	}
}

func TestStrangersAndTheDeadAreRemoved(t *testing.T) {
	h := newHouse(t, "strange", cells.Pool{Min: 1, Max: 1})
	h.await("a blank cell waits, frozen", blank(1))
	stranger, err := h.engine.Create(t.Context(), cells.ContainerSpec{Cell: "none", Kind: cells.Kind{Image: h.image}, UID: 480998, Dir: t.TempDir(), Slice: h.config.Slice, Limits: plain})
	if err != nil {
		t.Fatal(err)
	}
	dead := h.take("acme.0")
	if err := h.engine.Remove(t.Context(), dead.Container); err != nil {
		t.Fatal(err)
	}
	h.await("the stranger has gone, and the dead one's cell", func(list []cells.Container) bool {
		for _, k := range list {
			if k.ID == stranger.ID {
				return false
			}
		}
		_, has := h.Of("acme.0")
		return !has
	})
	if c := h.take("acme.0"); c.ID == dead.ID || !c.Answers() {
		t.Error("the instance has no living cell")
	}
}

func TestWithoutBlankCellsInstancesWaitInTurn(t *testing.T) {
	h := newHouse(t, "queue", cells.Pool{})
	const many = 4
	got := make(chan cells.Cell, many)
	for i := range many {
		s := h.spec(fmt.Sprintf("t%d.0", i))
		go func() {
			c, err := h.Take(t.Context(), fmt.Sprintf("t%d.0", i), s)
			if err != nil {
				t.Error(err)
			}
			got <- c
		}()
	}
	seen := map[string]bool{}
	for range many {
		seen[(<-got).ID] = true
	}
	if len(seen) != many {
		t.Errorf("%d instances have %d cells", many, len(seen))
	}
	h.await("no more were made than were wanted", func(list []cells.Container) bool { return len(list) == many })
}

func TestWhoCannotBeServedIsTold(t *testing.T) {
	h := newHouse(t, "full", cells.Pool{})
	s := h.spec("acme.0")
	s.Image = "sha256:" + strings.Repeat("0", 64)
	if _, err := h.Take(t.Context(), "acme.0", s); !errors.Is(err, cells.ErrNoImage) {
		t.Errorf("without its image: %v", err)
	}
	no := &cells.Full{Reason: "no memory", After: time.Second}
	h.config.Room = func(int64) error { return no }
	h.stop()
	h.open()
	if _, err := h.Take(t.Context(), "acme.0", h.spec("acme.0")); !errors.Is(err, no) {
		t.Errorf("without room: %v", err)
	}
}

// relabelled makes an image that differs from another by its ID only.
func relabelled(t *testing.T, of string, change string) string {
	t.Helper()
	c := dockertest.Client(t)
	made, err := c.ContainerCreate(t.Context(), &container.Config{Image: of}, nil, nil, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.ContainerRemove(context.Background(), made.ID, container.RemoveOptions{})
	r, err := c.ContainerCommit(t.Context(), made.ID, container.CommitOptions{Changes: []string{change}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.ImageRemove(context.Background(), r.ID, image.RemoveOptions{Force: true}) })
	return r.ID
}

func TestBlankCellsOfAnotherImageAreThereBeforeTheOldOnesGo(t *testing.T) {
	h := newHouse(t, "image", cells.Pool{Min: 2, Max: 2})
	h.await("two blank cells wait", blank(2))
	old, patched := h.image, relabelled(t, h.image, "LABEL patched=yes")
	of := func(list []cells.Container, image string) (n int) {
		for _, k := range list {
			if k.Image == image && k.Running {
				n++
			}
		}
		return n
	}
	h.Blank(patched)
	if err := h.AwaitStock(t.Context(), patched); err != nil {
		t.Fatal(err)
	}
	list, err := h.engine.List(t.Context())
	if err != nil || of(list, old) != 2 || of(list, patched) != 2 {
		t.Errorf("when the new ones are ready there are %d old and %d new (error %v), want 2 of each", of(list, old), of(list, patched), err)
	}
	h.await("the old ones have gone", func(list []cells.Container) bool { return of(list, old) == 0 && of(list, patched) == 2 })

	// An instance of the old image gets a cell of it, which nobody takes for
	// one that is left over.
	got := make(chan cells.Cell)
	spec := h.spec("acme.0")
	go func() {
		c, err := h.Take(t.Context(), "acme.0", spec)
		if err != nil {
			t.Error(err)
		}
		got <- c
	}()
	var mine cells.Cell
	h.await("it has its cell", func([]cells.Container) bool {
		select {
		case mine = <-got:
			return true
		default:
			return false
		}
	})
	if now, ok := h.Of("acme.0"); !ok || now.ID != mine.ID || now.Image != old || !now.Answers() {
		t.Errorf("it has cell %s of image %s", now.ID, now.Image)
	}

	broken := relabelled(t, h.image, `ENTRYPOINT ["/nothing"]`)
	h.Blank(broken)
	if err := h.AwaitStock(t.Context(), broken); err == nil || !strings.Contains(err.Error(), "/nothing") {
		t.Errorf("an image that does not start: %v", err)
	}
	if list := h.look(); of(list, patched) != 2 {
		t.Errorf("for an image that does not start %d blank cells are left", of(list, patched))
	}
}

func TestOtherRuntimesGetCellsOfTheirOwn(t *testing.T) {
	h := newHouse(t, "runtime", cells.Pool{Min: 1, Max: 1})
	h.await("a blank cell waits, frozen", blank(1))
	pool := map[string]bool{}
	for _, k := range h.look() {
		pool[k.Cell] = true
	}
	s := h.spec("acme.0")
	s.Runtime = "runc" // which each engine has, and which is another kind than no choice
	c, err := h.Take(t.Context(), "acme.0", s)
	if err != nil {
		t.Fatal(err)
	}
	if pool[c.ID] || c.Runtime != "runc" || !c.Answers() {
		t.Errorf("it got %+v; the pool had %v", c, pool)
	}
	if again, err := h.Take(t.Context(), "acme.0", s); err != nil || again.ID != c.ID {
		t.Errorf("then it got %s, %v", again.ID, err)
	}
	s.Runtime = ""
	if back, err := h.Take(t.Context(), "acme.0", s); err != nil || !pool[back.ID] {
		t.Errorf("without a choice it got %s, %v", back.ID, err)
	}
	other := h.spec("globex.0")
	other.Runtime = "nowhere"
	if _, err := h.Take(t.Context(), "globex.0", other); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("a runtime that the engine lacks: %v", err)
	}
	h.await("the pool is as it was, and nothing is left of the other", func(list []cells.Container) bool { return len(list) == 2 && blank(1)(list) })
}
