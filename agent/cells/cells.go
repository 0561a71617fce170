package cells

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"bulkhead/internal/allot"
)

// Config is what Cells need to know.
type Config struct {
	Dir    string // where cells have their directories; lost at reboot
	Slice  string // the slice unit that containers run below
	Engine Engine
	UIDs   *allot.Numbers // users of containers, by "cell:" and its id
	Log    *slog.Logger
	Blank  Spec // what blank cells are made with; Image and At are not used
	Pool   Pool
	// Network lets cells out; nil: they have no network at all. Resolv is the
	// file by which they know whom to ask for names.
	Network Network
	Resolv  string
	Modules string // the host's sets of npm modules, which every cell sees
	// Notify is told when a cell was taken or made: the agent should look.
	Notify func()
	// Room says why there is no room for another instance of so much memory;
	// nil: there is. It may make room meanwhile. Nil: there always is.
	Room func(memory int64) error
}

// Cells are all cells of a host. It is safe for use by several goroutines.
type Cells struct {
	cfg Config

	mu      sync.Mutex
	all     map[string]*Cell
	seen    map[string]Container // by cell, as the engine last said
	image   string               // of blank cells; empty: none are wanted
	taken   []time.Time          // when cells were, lately
	queue   []*waiter
	making  int
	orders  chan struct{} // holds one for each cell of another runtime that is being made
	refused time.Time     // no cell is made before
	pause   time.Duration
	failing map[string]failing // by image; none that a cell was made of since
	grown   chan struct{}      // closed and replaced when a cell was made, or could not be
	changed chan struct{}      // wakes Keep
}

// Open finds the cells that an earlier agent left.
func Open(cfg Config) (*Cells, error) {
	c := &Cells{cfg: cfg, all: map[string]*Cell{}, seen: map[string]Container{}, changed: make(chan struct{}, 1), failing: map[string]failing{}, grown: make(chan struct{}), orders: make(chan struct{}, makers)}
	if err := os.MkdirAll(cfg.Dir, 0o711); err != nil {
		return nil, fmt.Errorf("cannot open cells: %w", err)
	}
	homes, err := os.ReadDir(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("cannot open cells: %w", err)
	}
	for _, h := range homes {
		cell := &Cell{ID: h.Name(), home: filepath.Join(cfg.Dir, h.Name())}
		data, err := os.ReadFile(cell.file())
		if err == nil {
			err = json.Unmarshal(data, cell)
		}
		if err != nil {
			cfg.Log.Warn("a cell's record cannot be read: it goes", "cell", h.Name(), "error", err)
			cell.Leaving = true
		}
		c.all[cell.ID] = cell
	}
	return c, nil
}

// Of returns the cell that an instance has, if it has one that is not leaving.
func (c *Cells) Of(instance string) (Cell, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cell := c.of(instance); cell != nil {
		return *cell, true
	}
	return Cell{}, false
}

func (c *Cells) of(instance string) *Cell {
	for _, cell := range c.all {
		if cell.Instance == instance && !cell.Leaving {
			return cell
		}
	}
	return nil
}

// Linked returns the cells that have a way out.
func (c *Cells) Linked() []Cell {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []Cell
	for _, cell := range c.all {
		if cell.Linked {
			list = append(list, *cell)
		}
	}
	return list
}

// Containers returns what the engine last said of cells that are instances',
// by instance. A container whose cell is leaving, or none of ours, is not
// among them: it is on its way out.
func (c *Cells) Containers() map[string][]Container {
	c.mu.Lock()
	defer c.mu.Unlock()
	by := map[string][]Container{}
	for id, k := range c.seen {
		if cell := c.all[id]; cell != nil && cell.Instance != "" && !cell.Leaving {
			by[cell.Instance] = append(by[cell.Instance], k)
		}
	}
	return by
}

// Saw takes in what the engine shows, and has removed what should not be
// there: containers without a cell, blank ones that have died or are of an
// image whose time is over, cells that leave, and cells whose container is gone. The
// engine was asked at asked: it knows nothing of what was made since.
func (c *Cells) Saw(list []Container, asked time.Time) {
	var out []Container
	var dead []*Cell
	c.mu.Lock()
	for id := range c.seen {
		if cell := c.all[id]; cell == nil || cell.born.Before(asked) {
			delete(c.seen, id)
		}
	}
	for _, k := range list {
		cell := c.all[k.Cell]
		switch {
		case cell == nil:
			out = append(out, k)
		case cell.Leaving, cell.Instance == "" && cell.Container != "" && !k.Running, c.obsolete(cell):
			dead = append(dead, cell)
		default:
			c.seen[k.Cell] = k
		}
	}
	for _, cell := range c.all {
		if _, there := c.seen[cell.ID]; !cell.making && (!there || cell.Container == "") && cell.born.Before(asked) {
			dead = append(dead, cell)
		}
	}
	dead = append(dead, c.surplus(asked)...)
	for _, cell := range dead {
		cell.Leaving = true
	}
	c.mu.Unlock()
	go c.clear(out, dead)
}

// clear removes containers and cells.
func (c *Cells) clear(strays []Container, dead []*Cell) {
	ctx, cancel := context.WithTimeout(context.Background(), removePatience)
	defer cancel()
	for _, k := range strays {
		if err := c.cfg.Engine.Remove(ctx, k.ID); err != nil {
			c.cfg.Log.Warn("a container that is no cell's stays", "container", k.ID, "error", err)
		}
	}
	for _, cell := range dead {
		if err := c.bury(ctx, cell); err != nil {
			c.cfg.Log.Warn("a cell that is over stays", "cell", cell.ID, "error", err)
		}
	}
}

const removePatience = 30 * time.Second

// bury removes a cell: container, directory, user.
func (c *Cells) bury(ctx context.Context, cell *Cell) error {
	c.mu.Lock()
	if c.all[cell.ID] != cell || cell.burying {
		c.mu.Unlock()
		return nil
	}
	cell.Leaving, cell.burying = true, true
	id := cell.Container
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		cell.burying = false // what failed is tried again
		c.mu.Unlock()
	}()
	if id != "" {
		cell.freeze(false) // with cgroup version 1 a frozen process can't be killed
		if err := c.cfg.Engine.Remove(ctx, id); err != nil {
			return err
		}
	}
	if c.cfg.Network != nil {
		if err := c.cfg.Network.Detach(cell.ID); err != nil {
			return err
		}
	}
	if err := cell.removeTree(); err != nil {
		return err
	}
	c.mu.Lock()
	delete(c.all, cell.ID)
	delete(c.seen, cell.ID)
	c.mu.Unlock()
	c.wake()
	return c.cfg.UIDs.FreeAll(func(name string) bool { return name == uidName(cell.ID) })
}

// Remove removes the container with that ID, and the cell that it is.
func (c *Cells) Remove(ctx context.Context, container string) error {
	c.mu.Lock()
	var found *Cell
	for _, cell := range c.all {
		if cell.Container == container {
			found = cell
		}
	}
	c.mu.Unlock()
	if found == nil {
		return c.cfg.Engine.Remove(ctx, container)
	}
	return c.bury(ctx, found)
}

// Release takes an instance's cell from it: the cell will serve nobody any
// more, and goes.
func (c *Cells) Release(instance string) {
	c.mu.Lock()
	cell := c.of(instance)
	if cell != nil {
		cell.Leaving = true
		if err := cell.save(); err != nil {
			c.cfg.Log.Warn("a cell that leaves may be taken for one that stays", "cell", cell.ID, "error", err)
		}
	}
	c.mu.Unlock()
	if cell != nil {
		go c.clear(nil, []*Cell{cell})
	}
}

// RemoveAll removes every cell of this host. Nobody may take one meanwhile.
func (c *Cells) RemoveAll(ctx context.Context) error {
	list, err := c.cfg.Engine.List(ctx)
	if err != nil {
		return err
	}
	var errs []error
	c.mu.Lock()
	var all []*Cell
	for _, cell := range c.all {
		all = append(all, cell)
	}
	c.mu.Unlock()
	for _, k := range list {
		errs = append(errs, c.cfg.Engine.Remove(ctx, k.ID))
	}
	for _, cell := range all {
		errs = append(errs, c.bury(ctx, cell))
	}
	return errors.Join(append(errs, os.RemoveAll(c.cfg.Dir))...)
}

func uidName(cell string) string { return "cell:" + cell }
