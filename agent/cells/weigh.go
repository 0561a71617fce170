package cells

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"time"
)

// lookEvery is how often a cell that uses CPU is looked at, and restingLook how
// often one that does not.
const (
	lookEvery   = 250 * time.Millisecond
	restingLook = time.Second
)

// Weigh has cells that burn CPU run behind all others of this host's that want
// to, until ctx ends. They still get what nobody else wants, up to their quota.
func (c *Cells) Weigh(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	seen := map[string]*weighed{}
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			c.weigh(seen, now)
		}
	}
}

// weighed is a cell that Weigh looks at.
type weighed struct {
	burning
	meter meter
	said  string // what went wrong, as last told
}

func (c *Cells) weigh(seen map[string]*weighed, now time.Time) {
	taken := c.takenCells()
	maps.DeleteFunc(seen, func(id string, _ *weighed) bool { _, there := taken[id]; return !there })
	for id, cell := range taken {
		w := seen[id]
		if w == nil {
			w = &weighed{}
			seen[id] = w
		}
		if !w.due(now) {
			continue
		}
		err := w.look(cell, now)
		if err == nil || errors.Is(err, fs.ErrNotExist) { // it has just ended
			continue
		}
		if text := err.Error(); text != w.said {
			w.said = text
			c.cfg.Log.Warn("a cell may take CPU that others wait for", "cell", id, "error", err)
		}
	}
}

// look looks at a cell, and has it run behind others, or no longer.
func (w *weighed) look(cell Cell, now time.Time) error {
	first := w.at.IsZero() // what an earlier agent has decided is not known
	if first {
		meter, err := cell.meter()
		if err != nil {
			return err
		}
		w.meter = meter
	}
	used, err := w.meter.used()
	if err != nil {
		return err
	}
	next := w.burning.look(used, now, float64(cell.Limits.CPU)/1e9)
	if first || next.behind != w.behind {
		if err := cell.goBehind(next.behind); err != nil {
			return err
		}
	}
	w.burning = next
	return nil
}

// takenCells are instances' cells that run, by ID.
func (c *Cells) takenCells() map[string]Cell {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := map[string]Cell{}
	for id, cell := range c.all {
		if cell.Instance != "" && !cell.Leaving && cell.PID > 0 {
			list[id] = *cell
		}
	}
	return list
}
