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
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/coreos/go-systemd/v22/dbus"
	"github.com/coreos/go-systemd/v22/util"

	"bulkhead/agent"
	"bulkhead/internal/kept"
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

	mu            sync.Mutex
	conn          *dbus.Conn
	stopFollowing context.CancelFunc
	following     sync.WaitGroup
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
	following, stop := context.WithCancel(context.WithoutCancel(ctx))
	s := &Systemd{log: log, events: make(chan struct{}, 1), stopFollowing: stop}
	if _, err := s.connection(ctx); err != nil {
		stop()
		return nil, err
	}
	s.following.Go(func() { s.follow(following) })
	return s, nil
}

// Close disconnects. Units go on.
func (s *Systemd) Close() error {
	s.stopFollowing()
	s.following.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop()
	return nil
}

// drop gives up the connection. s.mu is held.
func (s *Systemd) drop() {
	if s.conn != nil {
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
	s.conn = conn
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

// Write implements [agent.Services].
func (s *Systemd) Write(ctx context.Context, us ...units.Unit) error {
	changed := false
	for _, u := range us {
		path := filepath.Join(Dir, u.Name)
		if old, err := os.ReadFile(path); err == nil && string(old) == u.Text {
			continue
		}
		if err := kept.Write(path, []byte(u.Text), 0o644); err != nil {
			return fmt.Errorf("cannot write unit %s: %w", u.Name, err)
		}
		changed = true
	}
	if !changed {
		return nil
	}
	return s.reloaded(ctx)
}
