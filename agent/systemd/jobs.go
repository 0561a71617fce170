package systemd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	godbus "github.com/godbus/dbus/v5"
)

// Start implements [agent.Services]. A unit that was given up on because it
// failed too often is tried again.
func (s *Systemd) Start(ctx context.Context, name string) error {
	conn, err := s.connection(ctx)
	if err != nil {
		return err
	}
	// These fail when there is nothing to reset.
	conn.ResetFailedUnitContext(ctx, name)
	if base, ok := strings.CutSuffix(name, ".socket"); ok {
		conn.ResetFailedUnitContext(ctx, base+".service")
	}
	return s.job(ctx, "start", name, conn.StartUnitContext)
}

// Restart implements [agent.Services].
func (s *Systemd) Restart(ctx context.Context, name string) error {
	conn, err := s.connection(ctx)
	if err != nil {
		return err
	}
	return s.job(ctx, "restart", name, conn.TryRestartUnitContext)
}

type doer func(ctx context.Context, name, mode string, result chan<- string) (int, error)

// job queues a job and waits for its result.
func (s *Systemd) job(ctx context.Context, what, name string, do doer) error {
	result := make(chan string, 1) // the library must never wait for us
	if _, err := do(ctx, name, "replace", result); err != nil {
		return fmt.Errorf("cannot %s unit %s: %w", what, name, err)
	}
	select {
	case r := <-result:
		if r != "done" && r != "skipped" {
			return fmt.Errorf("cannot %s unit %s: its job ended %q (systemctl status %s says more)", what, name, r, name)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("cannot %s unit %s: %w", what, name, ctx.Err())
	}
}

// Remove implements [agent.Services]. Units are stopped before their files
// go: a unit without a file would be out of reach.
func (s *Systemd) Remove(ctx context.Context, names ...string) error {
	conn, err := s.connection(ctx)
	if err != nil {
		return err
	}
	removed := false
	for _, name := range names {
		if err := s.job(ctx, "stop", name, conn.StopUnitContext); err != nil && !noSuchUnit(err) {
			return err
		}
		conn.ResetFailedUnitContext(ctx, name)
		err := os.Remove(filepath.Join(Dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot remove unit %s: %w", name, err)
		}
		removed = removed || err == nil
	}
	if !removed {
		return nil
	}
	return s.reloaded(ctx)
}

func noSuchUnit(err error) bool {
	var e godbus.Error
	return errors.As(err, &e) && e.Name == "org.freedesktop.systemd1.NoSuchUnit"
}
