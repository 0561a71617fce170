// Package systemd runs units by systemd, over D-Bus, for the agent of a host
// where systemd is PID 1.
//
// Unit files go to /run/systemd/system, so nothing of them outlives a boot.
// systemd has to read all its files again to see a new one (daemon-reload,
// 200 to 300 ms on a loaded host), so writers that come while it does share
// the next reload.
package systemd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/coreos/go-systemd/v22/dbus"
	"github.com/coreos/go-systemd/v22/util"
	godbus "github.com/godbus/dbus/v5"

	"bulkhead/agent"
	"bulkhead/units"
)

// Dir is where unit files go.
const Dir = "/run/systemd/system"

// Running says whether systemd is PID 1 here.
func Running() bool { return util.IsRunningSystemd() }

// Systemd runs units by the systemd that is PID 1.
type Systemd struct {
	log    *slog.Logger
	events chan struct{}
	reload reloads

	mu       sync.Mutex
	conn     *dbus.Conn
	unfollow func() // stops following conn's signals, and waits
}

var _ agent.Services = (*Systemd)(nil)

// Open connects to systemd, and makes the proxy's user and group if the host
// has none. It fails where systemd is not PID 1.
func Open(ctx context.Context, log *slog.Logger) (*Systemd, error) {
	if !Running() {
		return nil, errors.New("cannot run units by systemd: it is not PID 1 here")
	}
	if err := ensureUser(ctx, "bulkhead-proxy", agent.ProxyUID); err != nil {
		return nil, err
	}
	s := &Systemd{log: log, events: make(chan struct{}, 1)}
	_, err := s.connection(ctx)
	return s, err
}

// Close disconnects. Units go on.
func (s *Systemd) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop()
	return nil
}

// drop gives up the connection. s.mu is held.
func (s *Systemd) drop() {
	if s.conn != nil {
		s.unfollow()
		s.conn.Close()
		s.conn = nil
	}
}

// connection returns a connection that is up, a new one if need be: systemd
// may have been executed anew, or the bus started again.
func (s *Systemd) connection(ctx context.Context) (*dbus.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil && s.conn.Connected() {
		return s.conn, nil
	}
	s.drop()
	// The connection outlives the call that happens to make it.
	conn, err := dbus.NewWithContext(context.WithoutCancel(ctx))
	if err != nil {
		return nil, fmt.Errorf("cannot connect to systemd: %w", err)
	}
	if err := conn.Subscribe(); err != nil {
		conn.Close()
		return nil, fmt.Errorf("cannot subscribe to systemd's signals: %w", err)
	}
	s.conn, s.unfollow = conn, s.follow(conn)
	s.hint() // anything may have happened while there was none
	return conn, nil
}

// Events implements [agent.Services].
func (s *Systemd) Events() <-chan struct{} { return s.events }

func (s *Systemd) hint() {
	select {
	case s.events <- struct{}{}:
	default:
	}
}

// follow turns changes of our units' states into hints until the function
// that it returns is called. The library drops what its channels can't take,
// so a hint is all that may be made of it. (Its other subscription, of
// substates, asks systemd for every property of each unit that changes.)
func (s *Systemd) follow(conn *dbus.Conn) (unfollow func()) {
	changes, errs := make(chan *dbus.PropertiesUpdate, 1024), make(chan error, 16)
	conn.SetPropertiesSubscriber(changes, errs)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case c := <-changes:
				if c != nil && strings.HasPrefix(c.UnitName, "bulkhead-") {
					s.hint()
				}
			case err := <-errs:
				s.log.Debug("lost a signal of systemd's", "error", err)
				s.hint()
			case <-stop:
				return
			}
		}
	}()
	return func() { close(stop); <-done }
}

// Write implements [agent.Services].
func (s *Systemd) Write(ctx context.Context, us ...units.Unit) error {
	changed := false
	for _, u := range us {
		path := filepath.Join(Dir, u.Name)
		if old, err := os.ReadFile(path); err == nil && string(old) == u.Text {
			continue
		}
		if err := writeFile(path, u.Text); err != nil {
			return fmt.Errorf("cannot write unit %s: %w", u.Name, err)
		}
		changed = true
	}
	if !changed {
		return nil
	}
	return s.reloaded(ctx)
}

// writeFile replaces a file in one step. Its temporary name has an ending
// that systemd doesn't read.
func writeFile(path, text string) error {
	if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// Start implements [agent.Services]. A unit that was given up on because it
// failed too often is tried again.
func (s *Systemd) Start(ctx context.Context, name string) error {
	conn, err := s.connection(ctx)
	if err != nil {
		return err
	}
	conn.ResetFailedUnitContext(ctx, name) // fails when there is nothing to reset
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

// States implements [agent.Services]: units that systemd has loaded, and
// those whose files are there although it hasn't.
func (s *Systemd) States(ctx context.Context, prefix string) ([]units.State, error) {
	conn, err := s.connection(ctx)
	if err != nil {
		return nil, err
	}
	loaded, err := conn.ListUnitsByPatternsContext(ctx, nil, []string{prefix + "*"})
	if err != nil {
		return nil, fmt.Errorf("cannot list units: %w", err)
	}
	texts, err := texts(prefix)
	if err != nil {
		return nil, fmt.Errorf("cannot list units: %w", err)
	}
	var all []units.State
	for _, u := range loaded {
		text := texts[u.Name]
		delete(texts, u.Name)
		if text == "" && u.ActiveState == "inactive" {
			continue // a mere mention of it by another unit
		}
		all = append(all, units.State{Name: u.Name, Active: u.ActiveState, Sub: u.SubState, Text: text})
	}
	for name, text := range texts {
		all = append(all, units.State{Name: name, Active: "inactive", Sub: "dead", Text: text})
	}
	return all, nil
}

// texts reads our unit files.
func texts(prefix string) (map[string]string, error) {
	files, err := filepath.Glob(filepath.Join(Dir, prefix+"*"))
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for _, path := range files {
		name := filepath.Base(path)
		if strings.HasSuffix(name, ".new") || strings.HasSuffix(name, ".d") {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if err == nil {
			all[name] = string(text)
		}
	}
	return all, nil
}
