package cells

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"bulkhead/internal/cellctl"
)

// bootPatience is how long a container may take from its start to its first
// spare process.
const bootPatience = 90 * time.Second

// make makes a blank cell and waits until it has a spare.
func (c *Cells) make(ctx context.Context, kind Kind) (*Cell, error) {
	cell, err := c.prepare(kind)
	if err != nil {
		return nil, err
	}
	if err := c.boot(ctx, cell); err != nil {
		if gone := c.bury(context.WithoutCancel(ctx), cell); gone != nil {
			c.cfg.Log.Warn("a cell that could not be made stays", "cell", cell.ID, "error", gone)
		}
		return nil, err
	}
	return cell, nil
}

// prepare makes what a cell needs before its container: a name, a user, a
// directory.
func (c *Cells) prepare(kind Kind) (*Cell, error) {
	var id [4]byte
	rand.Read(id[:]) // never fails
	cell := &Cell{ID: hex.EncodeToString(id[:]), making: true, Kind: kind, Limits: c.cfg.Blank.Limits, Tmp: c.cfg.Blank.Tmp}
	cell.home = filepath.Join(c.cfg.Dir, cell.ID)
	uid, err := c.cfg.UIDs.Of(uidName(cell.ID))
	if err != nil {
		return nil, err
	}
	cell.UID = uid
	if err := cell.makeTree(); err != nil {
		return nil, fmt.Errorf("cannot make a cell: %w", err)
	}
	c.mu.Lock()
	c.all[cell.ID] = cell
	c.mu.Unlock()
	return cell, cell.save()
}

func (c *Cells) boot(ctx context.Context, cell *Cell) error {
	k, err := c.cfg.Engine.Create(ctx, ContainerSpec{
		Cell: cell.ID, Kind: cell.Kind, UID: cell.UID, Tmp: cell.Tmp, Dir: cell.Dir(), Slice: c.cfg.Slice, Limits: cell.Limits, Resolv: c.cfg.Resolv, Modules: c.cfg.Modules,
	})
	if err != nil {
		return err
	}
	c.mu.Lock()
	cell.Container, cell.PID, cell.born = k.ID, k.PID, time.Now()
	c.seen[cell.ID] = k
	err = cell.save()
	c.mu.Unlock()
	if err == nil && c.cfg.Network != nil {
		err = c.link(cell)
	}
	if err != nil {
		return err
	}
	if err := c.awaitSpare(ctx, cell); err != nil || cell.Runtime == "" {
		return err
	}
	return c.sees(cell)
}

// sees takes the link of a cell away that doesn't see it: a runtime with a
// network of its own, as gVisor is, knows only what was there when it started.
func (c *Cells) sees(cell *Cell) error {
	if !cell.Linked {
		return nil
	}
	r, err := cell.ask(cellctl.Request{Op: "status"}, time.Second)
	if err != nil || r.Interfaces > 0 {
		return err
	}
	if err := c.cfg.Network.Detach(cell.ID); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	cell.Linked = false
	return cell.save()
}

// link gives a cell a way out that is shut for now.
func (c *Cells) link(cell *Cell) error {
	if err := c.cfg.Network.Attach(cell.ID, cell.UID, cell.PID); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	cell.Linked = true
	return cell.save()
}

// errOver ends the wait for a cell that is not wanted any more, or has ended.
var errOver = errors.New("it ended, or is of an image that is not wanted any more")

// awaitSpare waits until the cell has a booted process without code. It looks
// often at first: a tenant's request may be waiting for it.
func (c *Cells) awaitSpare(ctx context.Context, cell *Cell) error {
	ctx, cancel := context.WithTimeout(ctx, bootPatience)
	defer cancel()
	for pause := 2 * time.Millisecond; ; pause = min(pause*5/4, 50*time.Millisecond) {
		r, err := cell.ask(cellctl.Request{Op: "status"}, time.Second)
		if err == nil && r.Spares+len(r.Processes) > 0 {
			return nil
		}
		c.mu.Lock()
		over := cell.Leaving
		c.mu.Unlock()
		if over {
			return fmt.Errorf("cannot boot cell %s: %w", cell.ID, errOver)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("cell %s has no process ready within %v (%v)", cell.ID, bootPatience, err)
		case <-time.After(pause):
		}
	}
}
