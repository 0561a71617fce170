package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"bulkhead/agent/cells"
	"bulkhead/internal/allot"
)

// Cleanup removes every instance from a host: units, containers and
// directories, found by name and label, and what was kept on disk about them.
// No agent may run meanwhile. It goes on past errors, and returns them
// joined; what was already gone is none.
func Cleanup(ctx context.Context, c Config) error {
	c, err := c.withDefaults()
	if err != nil {
		return err
	}
	p := c.Host.Paths
	uids, err := allot.Open(filepath.Join(p.State, "uids.json"), FirstUID, lastUID)
	if err != nil {
		return fmt.Errorf("cannot clean up: %w", err)
	}
	all, err := cells.Open(cellsConfig(c, uids))
	if err != nil {
		return fmt.Errorf("cannot clean up: %w", err)
	}
	o := newObserver(p, c.Services, c.Engine, all)
	x := &executor{paths: p, services: c.Services, cells: all, log: c.Log}
	var errs []error
	// What instances share goes in a second round, when neither needs it.
	for range 2 {
		seen, err := o.observe(ctx, func(string) bool { return true })
		if err == nil {
			err = seen.Blind
		}
		if err != nil {
			return fmt.Errorf("cannot clean up: %w", err)
		}
		errs = nil
		for _, t := range Plan(Desired{}, seen) {
			if err := x.run(ctx, []Task{t}, Want{}); err != nil {
				errs = append(errs, fmt.Errorf("instance %s: %w", t.Instance, err))
			}
		}
	}
	errs = append(errs, all.RemoveAll(ctx), removeNetwork(c), c.Services.Remove(ctx, CellsSlice))
	for _, path := range []string{instancesDir(p), filepath.Join(p.State, "desired"), filepath.Join(p.State, "uids.json")} {
		errs = append(errs, os.RemoveAll(path))
	}
	return errors.Join(errs...)
}
