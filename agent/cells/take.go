package cells

import (
	"context"
	"fmt"
	"time"

	"bulkhead/internal/cellctl"
)

// limitPatience is how long a cell may take to hear of new limits.
const limitPatience = 5 * time.Second

// Take gives an instance a cell: the one that it has, if that lives, or a
// blank one, with the limits that it wants. It waits in turn when none is
// blank; *Full says that it waited in vain.
func (c *Cells) Take(ctx context.Context, instance string, s Spec) (Cell, error) {
	if cell, ok := c.Of(instance); ok {
		if cell.Answers() && cell.Kind == s.Kind {
			return cell, nil
		}
		c.Release(instance)
	}
	if c.cfg.Room != nil {
		if err := c.cfg.Room(s.Limits.Memory); err != nil {
			return Cell{}, err
		}
	}
	cell, err := c.claim(ctx, s.Kind)
	if err != nil {
		return Cell{}, err
	}
	if err := c.adopt(cell, instance, s); err != nil {
		c.clear(nil, []*Cell{cell})
		return Cell{}, fmt.Errorf("cannot make cell %s that of %s: %w", cell.ID, instance, err)
	}
	c.cfg.Notify()
	c.mu.Lock()
	defer c.mu.Unlock()
	return *cell, nil
}

// adopt makes a claimed cell an instance's. That it is one is on disk first:
// whatever happens next, it is never anybody else's.
func (c *Cells) adopt(cell *Cell, instance string, s Spec) error {
	c.mu.Lock()
	cell.Instance, cell.At = instance, s.At
	err := cell.save()
	c.mu.Unlock()
	if err != nil {
		return err
	}
	if cell.Linked && c.cfg.Network != nil {
		if err := c.cfg.Network.Join(cell.ID, instance, s.Egress); err != nil {
			return err
		}
	}
	if err := cell.freeze(false); err != nil {
		return err
	}
	if err := c.fit(cell, s); err != nil {
		return err
	}
	return cell.show()
}

// fit gives a cell the limits that its instance wants.
func (c *Cells) fit(cell *Cell, s Spec) error {
	if err := cell.limit(s.Limits); err != nil {
		return err
	}
	if s.Tmp != cell.Tmp {
		if err := cell.resizeTmp(s.Tmp); err != nil {
			return err
		}
	}
	if s.Limits.Memory != cell.Limits.Memory {
		if _, err := cell.ask(cellctl.Request{Op: "limit", Memory: s.Limits.Memory}, limitPatience); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	cell.Limits, cell.Tmp = s.Limits, s.Tmp
	return cell.save()
}

// Resize gives an instance's cell other limits, and tells the engine of them.
func (c *Cells) Resize(ctx context.Context, instance string, s Spec) error {
	c.mu.Lock()
	cell := c.of(instance)
	c.mu.Unlock()
	if cell == nil {
		return fmt.Errorf("instance %s has no cell", instance)
	}
	// Or it hears nothing. To freeze it again is its runner's: a request may
	// be there by now.
	if err := cell.freeze(false); err != nil {
		return err
	}
	if err := c.fit(cell, s); err != nil {
		return err
	}
	return c.cfg.Engine.Resize(ctx, cell.Container, s.Limits)
}
