package systemd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"bulkhead/agent/orders"
)

var _ orders.Actions = (*Systemd)(nil)

// Units of actions: bulkhead-action-<name>.service, which the host's own
// configuration declares.
const (
	actionPrefix = "bulkhead-action-"
	actionSuffix = ".service"
)

func actionUnit(name string) string { return actionPrefix + name + actionSuffix }

// Actions implements [orders.Actions].
func (s *Systemd) Actions(ctx context.Context) ([]string, error) {
	conn, err := s.connection(ctx)
	if err != nil {
		return nil, err
	}
	files, err := conn.ListUnitFilesByPatternsContext(ctx, nil, []string{actionUnit("*")})
	if err != nil {
		return nil, fmt.Errorf("cannot list this host's actions: %w", err)
	}
	var names []string
	for _, f := range files {
		name := f.Path[strings.LastIndexByte(f.Path, '/')+1:]
		names = append(names, strings.TrimSuffix(strings.TrimPrefix(name, actionPrefix), actionSuffix))
	}
	slices.Sort(names)
	return names, nil
}

// StartAction implements [orders.Actions].
func (s *Systemd) StartAction(ctx context.Context, name string) error {
	return s.enqueue(ctx, actionUnit(name))
}

// enqueue has a unit begun anew, and does not wait for it.
func (s *Systemd) enqueue(ctx context.Context, unit string) error {
	conn, err := s.connection(ctx)
	if err != nil {
		return err
	}
	if _, err := conn.RestartUnitContext(ctx, unit, "replace", nil); err != nil {
		return fmt.Errorf("cannot start unit %s: %w", unit, err)
	}
	return nil
}

// ActionSince implements [orders.Actions].
func (s *Systemd) ActionSince(ctx context.Context, name string, since time.Time) (bool, error) {
	a, err := s.action(ctx, name)
	return a.runs() || !a.began.Before(since), err
}

// lookEvery is how often an action is looked at: systemd's signals are hints,
// and an action takes as long as it takes.
const lookEvery = 250 * time.Millisecond

// AwaitAction implements [orders.Actions]. An action that is ended by a
// shutdown has not failed: the next boot says how it went.
func (s *Systemd) AwaitAction(ctx context.Context, name string) error {
	for {
		a, err := s.action(ctx, name)
		switch {
		case err != nil:
			return err
		case a.stopping:
			<-ctx.Done()
			return ctx.Err()
		case a.runs():
		case a.active == "failed":
			return fmt.Errorf("action %s failed: %s (journalctl -u %s says more)", name, a.result, actionUnit(name))
		default:
			return nil
		}
		select {
		case <-time.After(lookEvery):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// action is how an action is.
type action struct {
	stopping bool // the host is shutting down
	queued   bool
	active   string
	result   string
	began    time.Time // when it last did
}

// runs says whether it does, or is about to.
func (a action) runs() bool {
	return a.queued || slices.Contains([]string{"activating", "reloading", "deactivating"}, a.active)
}

func (s *Systemd) action(ctx context.Context, name string) (action, error) {
	var a action
	conn, err := s.connection(ctx)
	if err != nil {
		return a, err
	}
	// Asked first: once units are being stopped, it says so.
	state, err := conn.SystemStateContext(ctx)
	if err != nil {
		return a, fmt.Errorf("cannot ask systemd how the host is: %w", err)
	}
	p, err := conn.GetAllPropertiesContext(ctx, actionUnit(name))
	if err != nil {
		return a, fmt.Errorf("cannot ask systemd how action %s is: %w", name, err)
	}
	if load, _ := p["LoadState"].(string); load != "loaded" {
		return a, errors.New("cannot ask systemd how action " + name + " is: its unit is " + load)
	}
	a.stopping = state.Value.Value() == "stopping"
	a.active, _ = p["ActiveState"].(string)
	a.result, _ = p["Result"].(string)
	if job, _ := p["Job"].([]any); len(job) > 0 {
		id, _ := job[0].(uint32)
		a.queued = id != 0
	}
	micros, _ := p["InactiveExitTimestamp"].(uint64)
	a.began = time.UnixMicro(int64(micros))
	return a, nil
}

// RestartSoon has those units restarted that run, and does not wait.
func (s *Systemd) RestartSoon(ctx context.Context, names ...string) error {
	conn, err := s.connection(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, err := conn.TryRestartUnitContext(ctx, name, "replace", nil); err != nil && !noSuchUnit(err) {
			return fmt.Errorf("cannot restart unit %s: %w", name, err)
		}
	}
	return nil
}
