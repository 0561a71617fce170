package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"bulkhead/agent/cells"
	"bulkhead/cluster"
	"bulkhead/internal/frames"
	"bulkhead/internal/kept"
)

const (
	// taskPatience is how long any task may take: a runner that is stopped
	// finishes its requests first (TimeoutStopSec=).
	taskPatience = 2 * time.Minute
	// tellPatience is how long a runner may take to confirm what it is told.
	tellPatience = 5 * time.Second
)

// executor carries out tasks. Each may be cut short at any point: what it
// left undone is planned again.
type executor struct {
	paths    cluster.Paths
	services Services
	cells    *cells.Cells
	turns    turns
	log      *slog.Logger
}

// run carries out one instance's tasks in order, up to the first that fails.
func (x *executor) run(ctx context.Context, tasks []Task, w Want) error {
	for _, t := range tasks {
		start := time.Now()
		if err := x.do(ctx, t, w); err != nil {
			return fmt.Errorf("cannot %s: %w", t.Action, err)
		}
		x.log.Info(string(t.Action), "instance", t.Instance, "reason", t.Reason, "took", time.Since(start).Round(100*time.Microsecond))
	}
	return nil
}

func (x *executor) do(ctx context.Context, t Task, w Want) error {
	ctx, cancel := context.WithTimeout(ctx, taskPatience)
	defer cancel()
	dir := x.paths.InstanceDir(t.Instance)
	switch t.Action {
	case MakeDirs:
		return makeDirs(dir)
	case WriteKeys:
		return writeKeys(dir, w.Keys)
	case WriteFunctions:
		return writeFunctions(dir, w.Functions)
	case WriteUnits:
		return x.services.Write(ctx, w.Units...)
	case RemoveContainer:
		return x.cells.Remove(ctx, t.Container)
	case TakeCell:
		_, err := x.take(ctx, t.Instance, w.Cell)
		return err
	case ResizeCell:
		return x.cells.Resize(ctx, t.Instance, w.Cell)
	case StartSocket:
		return x.services.Start(ctx, w.Units[2].Name)
	case RestartRunner:
		return x.services.Restart(ctx, w.Units[3].Name)
	case TellRunner:
		return tellRunner(ctx, dir, w)
	case RemoveUnits:
		return x.services.Remove(ctx, t.Units...)
	case RemoveDirs:
		return removeDirs(dir)
	}
	return fmt.Errorf("no such action: %q", t.Action)
}

// writeKeys replaces the runner's credential. Whatever the runner was told
// before is void first, so that an agent killed in between tells it again.
func writeKeys(dir cluster.InstanceDir, keys []byte) error {
	if err := void(dir); err != nil {
		return err
	}
	return kept.Write(dir.Keys(), keys, 0o600)
}

func void(dir cluster.InstanceDir) error {
	if err := os.Remove(toldFile(dir)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// writeFunctions makes the directory of functions hold these and no others.
func writeFunctions(dir cluster.InstanceDir, fs map[string]cluster.Function) error {
	if err := void(dir); err != nil {
		return err
	}
	for name, f := range fs {
		file := filepath.Join(dir.Functions(), name+".json")
		if _, err := os.Stat(file); err == nil && lacksModules(f) {
			continue // the version before goes on
		}
		data, err := json.Marshal(f)
		if err == nil {
			err = kept.Write(file, data, 0o644)
		}
		if err != nil {
			return fmt.Errorf("function %s: %w", name, err)
		}
	}
	files, err := os.ReadDir(dir.Functions())
	for _, file := range files {
		if _, wanted := fs[strings.TrimSuffix(file.Name(), ".json")]; !wanted {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir.Functions(), file.Name())))
		}
	}
	return err
}

// tellRunner sends a running runner its configuration, and notes that it
// confirmed it.
func tellRunner(ctx context.Context, dir cluster.InstanceDir, w Want) error {
	ctx, cancel := context.WithTimeout(ctx, tellPatience)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", dir.Socket())
	if err != nil {
		return err
	}
	c := frames.NewClient(conn, "agent")
	defer c.Close()
	r := frames.Request{Method: []byte("PUT"), Target: []byte("/reload"), Body: w.Keys}
	status, body, err := c.Do(ctx, r, 1<<16)
	if err != nil {
		return err
	}
	if status != 200 {
		return fmt.Errorf("runner answers %d: %.200s", status, body)
	}
	var answer cluster.RunnerAnswer
	if want := len(w.Placement.Revoked); want > 0 && (json.Unmarshal(body, &answer) != nil || answer.Revoked != want) {
		return fmt.Errorf("the runner refuses %d of %d revoked tokens: it is of an older release, until it is replaced", answer.Revoked, want)
	}
	return kept.Write(toldFile(dir), []byte(w.Config()), 0o600)
}

// take gives an instance its cell. Its worker and its runner may both want it
// to have one: they take turns.
func (x *executor) take(ctx context.Context, instance string, s cells.Spec) (cells.Cell, error) {
	defer x.turns.of(instance)()
	return x.cells.Take(ctx, instance, s)
}

// turns lets one at a time do something to an instance.
type turns struct {
	mu sync.Mutex
	by map[string]*turn
}

type turn struct {
	sync.Mutex
	wanted int
}

// of waits for an instance's turn, and returns what ends it.
func (t *turns) of(instance string) (end func()) {
	t.mu.Lock()
	if t.by == nil {
		t.by = map[string]*turn{}
	}
	one := t.by[instance]
	if one == nil {
		one = &turn{}
		t.by[instance] = one
	}
	one.wanted++
	t.mu.Unlock()
	one.Lock()
	return func() {
		one.Unlock()
		t.mu.Lock()
		defer t.mu.Unlock()
		if one.wanted--; one.wanted == 0 {
			delete(t.by, instance)
		}
	}
}
