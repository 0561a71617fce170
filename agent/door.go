package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"bulkhead/agent/cells"
	"bulkhead/cluster"
	"bulkhead/internal/waking"
)

// A cell that ends over and over is not made anew for every request: within
// newCellsTime an instance gets newCells.
const (
	newCells     = 5
	newCellsTime = 10 * time.Second
)

// door is where an instance's runner asks for its cell, or says that it wants
// to sleep. It is a socket in a directory that the runner's jail shows.
type door struct {
	instance string
	used     string // the file in which its runner keeps what was used of quotas
	listener *net.UnixListener
	executor *executor
	loads    *loads
	log      *slog.Logger
	stop     context.CancelFunc
	work     sync.WaitGroup

	mu    sync.Mutex
	want  Want
	conns map[*net.UnixConn]bool
	cell  string      // last given out
	given []time.Time // when another than the last was
}

// openDoor listens for an instance's runner until ctx ends or the door is
// closed.
func (a *Agent) openDoor(ctx context.Context, instance string, w Want) (*door, error) {
	path := filepath.Join(a.cfg.Host.Paths.InstanceDir(instance).Agent(), waking.Socket)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("cannot listen for the runner of %s: %w", instance, err)
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err == nil {
		err = os.Chmod(path, 0o666) // the directories above let nobody by but the jail
	}
	if err != nil {
		return nil, fmt.Errorf("cannot listen for the runner of %s: %w", instance, err)
	}
	ctx, stop := context.WithCancel(ctx)
	d := &door{instance: instance, used: a.cfg.Host.Paths.InstanceDir(instance).Used(), listener: l, executor: a.executor, loads: a.loads, log: a.cfg.Log, stop: stop, want: w, conns: map[*net.UnixConn]bool{}}
	d.work.Go(func() { d.accept(ctx) })
	return d, nil
}

// update says what the instance wants from now on.
func (d *door) update(w Want) {
	d.mu.Lock()
	d.want = w
	d.mu.Unlock()
}

func (d *door) accept(ctx context.Context) {
	for {
		c, err := d.listener.AcceptUnix()
		if err != nil {
			return
		}
		d.mu.Lock()
		d.conns[c] = true
		d.mu.Unlock()
		d.work.Go(func() { d.converse(ctx, c) })
	}
}

func (d *door) converse(ctx context.Context, c *net.UnixConn) {
	defer func() {
		d.mu.Lock()
		delete(d.conns, c)
		d.mu.Unlock()
		c.Close()
	}()
	for {
		var ask waking.Ask
		if _, err := waking.Receive(c, &ask); err != nil {
			return
		}
		if ask.Op == waking.Load {
			d.loads.say(d.instance, ask.Load)
			continue
		}
		answer, files := d.answer(ctx, ask)
		err := waking.Send(c, answer, files...)
		waking.Close(files)
		if err != nil {
			return
		}
	}
}

func (d *door) answer(ctx context.Context, ask waking.Ask) (waking.Answer, []*os.File) {
	switch ask.Op {
	case waking.Wake:
		a, files, err := d.wake(ctx)
		var full *cells.Full
		switch {
		case errors.As(err, &full):
			return waking.Answer{Error: full.Reason, After: full.After.Milliseconds()}, nil
		case err != nil:
			d.log.Warn("cannot wake an instance", "instance", d.instance, "error", err)
			return waking.Answer{Error: "its container cannot be started", After: 1000}, nil
		}
		return a, files
	case waking.Book:
		f, err := os.OpenFile(d.used, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			d.log.Warn("an instance's quotas are not kept", "instance", d.instance, "error", err)
			return waking.Answer{Error: "its file cannot be opened"}, nil
		}
		return waking.Answer{}, []*os.File{f}
	case waking.Sleep:
		d.mu.Lock()
		warm := d.want.warm()
		d.mu.Unlock()
		if warm {
			return waking.Answer{Error: "the instance is to be kept ready"}, nil
		}
		d.executor.cells.Release(d.instance)
		d.gaveUp()
		d.log.Info("instance sleeps", "instance", d.instance)
		return waking.Answer{}, nil
	}
	return waking.Answer{Error: fmt.Sprintf("unknown op %.32q", ask.Op)}, nil
}

// wake sees to it that the instance has a cell, and returns what its runner
// needs to use it.
func (d *door) wake(ctx context.Context) (waking.Answer, []*os.File, error) {
	d.mu.Lock()
	want := d.want.Cell
	worn := d.worn(time.Now())
	d.mu.Unlock()
	if _, has := d.executor.cells.Of(d.instance); worn && !has {
		return waking.Answer{}, nil, &cells.Full{Reason: fmt.Sprintf("its container has died %d times within %v", newCells, newCellsTime), After: 5 * time.Second}
	}
	start := time.Now()
	cell, err := d.executor.take(ctx, d.instance, want)
	if err != nil {
		return waking.Answer{}, nil, err
	}
	d.note(cell, time.Since(start))
	freezer, err := cell.Freezer()
	if err != nil {
		return waking.Answer{}, nil, err
	}
	file, err := os.OpenFile(freezer.Path, os.O_WRONLY, 0)
	if err != nil {
		return waking.Answer{}, nil, err
	}
	tree, err := cell.Tree()
	if err != nil {
		file.Close()
		return waking.Answer{}, nil, err
	}
	return waking.Answer{Freeze: freezer.Freeze, Thaw: freezer.Thaw}, []*os.File{tree, file}, nil
}

// note remembers which cell the instance has now.
func (d *door) note(cell cells.Cell, took time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cell == cell.ID {
		return
	}
	d.cell = cell.ID
	d.given = append(d.given, time.Now())
	d.log.Info("instance is awake", "instance", d.instance, "cell", cell.ID, "took", took.Round(100*time.Microsecond))
}

// gaveUp forgets a cell that was given back, and did not die.
func (d *door) gaveUp() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cell != "" && len(d.given) > 0 {
		d.given = d.given[:len(d.given)-1]
	}
	d.cell = ""
}

// worn says whether the instance has used up too many cells lately.
func (d *door) worn(now time.Time) bool {
	for len(d.given) > 0 && now.Sub(d.given[0]) > newCellsTime {
		d.given = d.given[1:]
	}
	return len(d.given) >= newCells
}

// rest asks the runner to sleep if it is idle. False: it may not.
func (d *door) rest() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.want.warm() {
		return false
	}
	for c := range d.conns {
		waking.Send(c, waking.Answer{Idle: true})
	}
	return len(d.conns) > 0
}

// close ends the door and waits for who stands in it.
func (d *door) close() {
	d.stop()
	d.listener.Close()
	d.mu.Lock()
	for c := range d.conns {
		c.Close()
	}
	d.mu.Unlock()
	d.work.Wait()
}

// tend opens a door for each instance that is desired and has its
// directories, and closes the others'.
func (a *Agent) tend(ctx context.Context, desired Desired, seen Observed) {
	var closing []*door
	a.doorsMu.Lock()
	for i, w := range desired {
		if d := a.doors[i]; d != nil && (seen.Dirs[i].Door || !seen.Dirs[i].Whole) {
			d.update(w)
			continue
		}
		if w.Missing != "" || !seen.Dirs[i].Whole {
			continue
		}
		opened, err := a.openDoor(ctx, i, w)
		if err != nil {
			a.cfg.Log.Error("its runner cannot wake an instance", "instance", i, "error", err)
			continue
		}
		if before := a.doors[i]; before != nil { // its socket is gone
			closing = append(closing, before)
		}
		a.doors[i] = opened
		a.life(i).worked = true
	}
	for i, d := range a.doors {
		if _, wanted := desired[i]; !wanted {
			closing = append(closing, d)
			delete(a.doors, i)
		}
	}
	a.doorsMu.Unlock()
	for _, d := range closing {
		d.close()
	}
}

// doorThere says whether the socket of an instance's door is.
func doorThere(d cluster.InstanceDir) bool {
	_, err := os.Stat(filepath.Join(d.Agent(), waking.Socket))
	return err == nil
}
