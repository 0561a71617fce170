package cells

import (
	"context"
	"fmt"
	"time"
)

// maxWaiting is how many instances may wait for a cell at a time, and
// patience how long each: less than their runners wait for us.
const (
	maxWaiting = 64
	patience   = 12 * time.Second
)

// Full says that an instance can't be woken now, and when to ask again.
type Full struct {
	Reason string
	After  time.Duration
}

func (e *Full) Error() string { return e.Reason }

// waiter is an instance that waits for a blank cell.
type waiter struct {
	image string
	got   chan gift
}

type gift struct {
	cell *Cell
	err  error
}

// claim returns a blank cell, which is the caller's alone from then on: one
// that is there, or the next that is made, in the order in which callers came.
func (c *Cells) claim(ctx context.Context, kind Kind) (*Cell, error) {
	if kind.Runtime != "" {
		return c.order(ctx, kind)
	}
	image := kind.Image
	c.mu.Lock()
	for _, cell := range c.all {
		if cell.blank() && cell.Kind == kind {
			cell.claimed = true
			c.noteTaken()
			c.mu.Unlock()
			return cell, nil
		}
	}
	if len(c.queue) >= maxWaiting {
		c.mu.Unlock()
		return nil, &Full{fmt.Sprintf("%d instances wait for a container on this host already", maxWaiting), time.Second}
	}
	w := &waiter{image: image, got: make(chan gift, 1)}
	c.queue = append(c.queue, w)
	c.noteTaken()
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case g := <-w.got:
		return g.cell, g.err
	case <-ctx.Done():
		c.leave(w)
		return nil, &Full{fmt.Sprintf("no container was ready within %v", patience), time.Second}
	}
}

// order has a cell of a kind made for the caller: no pool has such.
func (c *Cells) order(ctx context.Context, kind Kind) (*Cell, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case c.orders <- struct{}{}:
		defer func() { <-c.orders }()
	case <-ctx.Done():
		return nil, &Full{fmt.Sprintf("%d containers of other OCI runtimes than the engine's own are being made already", cap(c.orders)), time.Second}
	}
	cell, err := c.make(ctx, kind)
	if err != nil {
		return nil, fmt.Errorf("OCI runtime %s: %w", kind.Runtime, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	cell.making, cell.ready, cell.claimed = false, true, true
	return cell, nil
}

// blank says that the cell is ready and nobody's.
func (c *Cell) blank() bool {
	return c.ready && !c.claimed && c.Instance == "" && !c.Leaving
}

func (c *Cells) noteTaken() {
	c.taken = append(since(c.taken, time.Now()), time.Now())
	c.wake()
}

// leave takes back a wait. A cell that came at the last moment stays blank.
func (c *Cells) leave(w *waiter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, other := range c.queue {
		if other == w {
			c.queue = append(c.queue[:i:i], c.queue[i+1:]...)
			return
		}
	}
	select {
	case g := <-w.got:
		if g.cell != nil {
			g.cell.claimed = false
		}
	default:
	}
}

// made hands a new cell to the first who waits for one like it. The lock is
// held.
func (c *Cells) made(cell *Cell) {
	cell.ready = true
	for i, w := range c.queue {
		if w.image == cell.Image {
			c.queue = append(c.queue[:i:i], c.queue[i+1:]...)
			cell.claimed = true
			w.got <- gift{cell: cell}
			return
		}
	}
}

// failed tells all who wait for an image why there will be none. The lock is
// held.
func (c *Cells) failed(image string, err error) {
	var rest []*waiter
	for _, w := range c.queue {
		if w.image == image {
			w.got <- gift{err: err}
			continue
		}
		rest = append(rest, w)
	}
	c.queue = rest
}
