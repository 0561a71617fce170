package cells

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"
)

// makers is how many cells are made at a time. Each keeps a core busy, of
// Docker's more than of ours, and whoever is awake is to have the others.
var makers = min(max(runtime.NumCPU()/2, 1), 8)

const (
	pauseMin = 200 * time.Millisecond
	pauseMax = 30 * time.Second
)

// Blank says which image blank cells are to have; "" is none at all.
func (c *Cells) Blank(image string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.image != image {
		c.image = image
		c.wake()
	}
}

// wake has Keep look. The lock need not be held.
func (c *Cells) wake() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// Keep makes cells, for those who wait and for the pool, until ctx ends, and
// returns when none is being made any more.
func (c *Cells) Keep(ctx context.Context) {
	var work sync.WaitGroup
	defer work.Wait()
	go c.adoptBlank(ctx)
	for {
		next := c.step(ctx, &work, time.Now())
		select {
		case <-ctx.Done():
			return
		case <-c.changed:
		case <-time.After(next):
		}
	}
}

// step starts what is to be made now, removes what is too many, and tells when
// to look again.
func (c *Cells) step(ctx context.Context, work *sync.WaitGroup, now time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Before(c.refused) {
		return c.refused.Sub(now)
	}
	for c.making < makers {
		image := c.lacking(now)
		if image == "" {
			break
		}
		c.making++
		work.Go(func() { c.makeOne(ctx, image) })
	}
	c.taken = since(c.taken, now)
	if len(c.taken) > 0 {
		return time.Second
	}
	return time.Minute
}

// lacking is the image of the next cell to make: first for who waits, then
// for the pool.
func (c *Cells) lacking(now time.Time) string {
	if len(c.queue) > c.making {
		return c.queue[c.making].image
	}
	if c.image == "" || c.blanks(c.image)+c.making-len(c.queue) >= c.cfg.Pool.target(c.taken, now) {
		return ""
	}
	return c.image
}

// blanks is how many blank cells there are of an image. The lock is held.
func (c *Cells) blanks(image string) (n int) {
	for _, cell := range c.all {
		if cell.blank() && cell.Image == image {
			n++
		}
	}
	return n
}

// obsolete says whether a cell is blank and of another image than blank cells
// are to be, of which there are enough by now: until then instances of the
// image before find theirs. The lock is held.
func (c *Cells) obsolete(cell *Cell) bool {
	return cell.blank() && c.image != "" && cell.Image != c.image && c.blanks(c.image) >= c.cfg.Pool.Min
}

// failing is what became of cells that could not be made.
type failing struct {
	times int
	last  error
}

// stockFailures is after how many cells that could not be made an image is
// taken for one of which none can.
const stockFailures = 5

// grow tells who waits for cells that there may be one more. The lock is held.
func (c *Cells) grow() {
	close(c.grown)
	c.grown = make(chan struct{})
}

// AwaitStock waits until as many cells of an image are blank as are always
// kept, or until it seems that none can be made. [Cells.Blank] says that they
// are wanted.
func (c *Cells) AwaitStock(ctx context.Context, image string) error {
	c.mu.Lock()
	delete(c.failing, image)
	c.mu.Unlock()
	for {
		c.mu.Lock()
		n, grown, failing := c.blanks(image), c.grown, c.failing[image]
		c.mu.Unlock()
		if n >= c.cfg.Pool.Min {
			return nil
		}
		if failing.times >= stockFailures {
			return fmt.Errorf("%d cells of it could not be made: %w", failing.times, failing.last)
		}
		select {
		case <-grown:
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%d of %d blank cells of it are ready: %w", n, c.cfg.Pool.Min, ctx.Err()), failing.last)
		}
	}
}

// surplus are blank cells that are more than there should be. The lock is held.
func (c *Cells) surplus(now time.Time) []*Cell {
	var blank []*Cell
	for _, cell := range c.all {
		if cell.blank() && (c.image == "" || cell.Image == c.image) {
			blank = append(blank, cell)
		}
	}
	return blank[min(len(blank), c.cfg.Pool.target(c.taken, now)):]
}

func (c *Cells) makeOne(ctx context.Context, image string) {
	cell, err := c.make(ctx, Kind{Image: image})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.making--
	c.wake()
	if cell != nil {
		cell.making = false
	}
	defer c.grow()
	if err == nil {
		delete(c.failing, image)
		c.pause = 0
		c.made(cell)
		if cell.blank() {
			c.rest(cell)
		}
		return
	}
	if ctx.Err() != nil {
		return
	}
	c.pause = min(max(2*c.pause, pauseMin), pauseMax)
	c.refused = time.Now().Add(c.pause)
	c.failing[image] = failing{c.failing[image].times + 1, err}
	c.cfg.Log.Warn("cannot make a cell, trying again", "error", err, "in", c.pause)
	c.failed(image, err)
}

// rest freezes a blank cell: it has nothing to do until it is taken.
func (c *Cells) rest(cell *Cell) {
	if err := cell.freeze(true); err != nil {
		c.cfg.Log.Warn("a blank cell is not frozen", "cell", cell.ID, "error", err)
	}
}

// adoptBlank makes blank cells that an earlier agent left ready to be taken.
// Those that have no link, where cells have one now, go, and the reverse; and
// those that were ordered.
func (c *Cells) adoptBlank(ctx context.Context) {
	c.mu.Lock()
	var left []*Cell
	for _, cell := range c.all {
		if cell.Instance == "" && !cell.Leaving && !cell.ready && cell.Container != "" {
			left = append(left, cell)
		}
	}
	c.mu.Unlock()
	for _, cell := range left {
		if cell.Runtime != "" || cell.Linked != (c.cfg.Network != nil) {
			c.clear(nil, []*Cell{cell})
			continue
		}
		cell.freeze(false)
		err := c.awaitSpare(ctx, cell)
		c.mu.Lock()
		if err == nil {
			c.made(cell)
			if cell.blank() {
				c.rest(cell)
			}
			c.grow()
		}
		c.mu.Unlock()
		c.cfg.Notify() // there may be too many of them
		if err != nil {
			c.clear(nil, []*Cell{cell})
		}
	}
	c.wake()
}
