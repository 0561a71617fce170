package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"bulkhead/units"
)

// Supervisor runs units. Make it with Open.
type Supervisor struct {
	store   store
	logs    string
	log     *slog.Logger
	users   *users
	cgroups cgroups
	poll    *poller
	lock    *os.File
	events  chan struct{}
	closing chan struct{}
	work    sync.WaitGroup
	said    sync.Map // what has been said once

	mu     sync.Mutex
	units  map[string]*entry
	closed bool
}

// entry is a unit that is installed.
type entry struct {
	text    string
	file    unitFile
	service serviceSpec
	socket  socketSpec
	limits  limits // of a slice

	active string // as systemd says it
	// Of sockets: the descriptors, while started.
	fds []int
	// Of services.
	process  *process
	begun    time.Time
	starting chan struct{} // closed when the start under way has ended
	stopping bool
	failures int // in a row
	retry    *time.Timer
	err      error // of the last start
}

// Open starts a supervisor that keeps units and notes in run/supervisor,
// which must not outlive a boot, and logs and users in state. Services that
// an earlier supervisor started there go on; its sockets are opened again.
// Only one at a time may use a directory.
func Open(run, state string, log *slog.Logger) (*Supervisor, error) {
	dir := filepath.Join(run, "supervisor")
	store, err := openStore(dir)
	if err != nil {
		return nil, err
	}
	logs := filepath.Join(state, "logs")
	if err := os.MkdirAll(logs, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make a place for logs: %w", err)
	}
	users, err := openUsers(filepath.Join(state, "service-users.json"))
	if err != nil {
		return nil, err
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	poll, err := newPoller()
	if err != nil {
		lock.Close()
		return nil, err
	}
	s := &Supervisor{
		store: store, logs: logs, log: log, users: users, cgroups: findCgroups(), poll: poll, lock: lock,
		events: make(chan struct{}, 1), closing: make(chan struct{}),
		units: map[string]*entry{},
	}
	if err := s.takeOver(); err != nil {
		s.Close()
		return nil, err
	}
	s.work.Go(s.trimLogs)
	return s, nil
}

// lockDir makes sure that no other supervisor uses a directory.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot lock %s: %w", dir, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("another supervisor uses %s: %w", dir, err)
	}
	return f, nil
}

// Close ends the supervisor. Services go on, and a supervisor opened later
// takes them over; until then nobody listens on sockets whose service doesn't
// run.
func (s *Supervisor) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.closing)
	for _, e := range s.units {
		if e.retry != nil {
			e.retry.Stop()
		}
	}
	s.mu.Unlock()
	s.poll.close()
	s.work.Wait()
	for _, e := range s.units {
		closeAll(e.fds)
	}
	return s.lock.Close()
}

// Events wakes whoever reads it when a unit's state may have changed.
func (s *Supervisor) Events() <-chan struct{} { return s.events }

func (s *Supervisor) hint() {
	select {
	case s.events <- struct{}{}:
	default:
	}
}

// Write installs unit files. Limits of slices change at once; a service's
// change comes with its next start.
func (s *Supervisor) Write(_ context.Context, us ...units.Unit) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range us {
		if e := s.units[u.Name]; e != nil && e.text == u.Text {
			continue
		}
		if err := s.install(u); err != nil {
			return err
		}
		if err := s.store.write(u.Name, u.Text); err != nil {
			return fmt.Errorf("cannot write unit %s: %w", u.Name, err)
		}
	}
	s.hint()
	return nil
}

// install parses a unit and puts it in force.
func (s *Supervisor) install(u units.Unit) error {
	e := &entry{active: "inactive"}
	if old := s.units[u.Name]; old != nil {
		e = old
	}
	file, err := parseUnit(u.Name, u.Text)
	if err != nil {
		return err
	}
	switch file.kind() {
	case "service":
		e.service, err = parseService(file)
	case "socket":
		e.socket, err = parseSocket(file)
	case "slice":
		r := &reader{unitFile: file, section: "Slice"}
		e.limits, err = parseLimits(r), r.err
	default:
		err = fmt.Errorf("cannot run unit %s: not a service, socket or slice", u.Name)
	}
	if err != nil {
		return err
	}
	e.text, e.file = u.Text, file
	s.units[u.Name] = e
	if names := file.unhonoured(); len(names) > 0 {
		s.sayOnce(u.Name, "directives not honoured without systemd", "unit", u.Name, "directives", strings.Join(names, " "))
	}
	if file.kind() == "slice" {
		e.active = "active"
		if err := s.cgroups.set(slicePath(u.Name), e.limits); err != nil {
			s.sayOnce(u.Name+" cgroup", "slice has no limits here", "unit", u.Name, "error", err)
		}
	}
	return nil
}

func (s *Supervisor) sayOnce(key, message string, args ...any) {
	if _, said := s.said.LoadOrStore(key, true); !said {
		s.log.Warn(message, args...)
	}
}

// Start starts a unit and waits until it has started: a slice is always, a
// socket once it listens, a service once it is executed.
func (s *Supervisor) Start(ctx context.Context, name string) error {
	s.mu.Lock()
	e := s.units[name]
	if e == nil {
		s.mu.Unlock()
		return fmt.Errorf("cannot start unit %s: it is not installed", name)
	}
	switch e.file.kind() {
	case "socket":
		defer s.mu.Unlock()
		return s.startSocket(name, e)
	case "service":
		return s.startService(ctx, name, e)
	}
	s.mu.Unlock()
	return nil
}

// Restart stops and starts a service, if it runs. Its sockets stay: who
// connects meanwhile waits.
func (s *Supervisor) Restart(ctx context.Context, name string) error {
	s.mu.Lock()
	e := s.units[name]
	running := e != nil && (e.process != nil || e.starting != nil || e.retry != nil)
	s.mu.Unlock()
	if !running {
		return nil
	}
	if err := s.stopService(ctx, e); err != nil {
		return err
	}
	return s.Start(ctx, name)
}

// Remove stops units in the order given and removes their files.
func (s *Supervisor) Remove(ctx context.Context, names ...string) error {
	var errs []error
	for _, name := range names {
		if err := s.remove(ctx, name); err != nil {
			errs = append(errs, fmt.Errorf("cannot remove unit %s: %w", name, err))
		}
	}
	s.hint()
	return errors.Join(errs...)
}

func (s *Supervisor) remove(ctx context.Context, name string) error {
	s.mu.Lock()
	e := s.units[name]
	if e == nil {
		s.mu.Unlock()
		if strings.HasSuffix(name, ".slice") {
			s.cgroups.remove(slicePath(name)) // made on the way to one below it
		}
		return s.store.remove(name)
	}
	kind := e.file.kind()
	if kind == "socket" {
		s.stopSocket(e)
	}
	s.mu.Unlock()
	if kind == "service" {
		if err := s.stopService(ctx, e); err != nil {
			return err
		}
		os.Remove(s.logPath(name))
	}
	if kind == "slice" {
		s.cgroups.remove(slicePath(name))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.units, name)
	return s.store.remove(name)
}

// States returns the units whose names start with prefix.
func (s *Supervisor) States(_ context.Context, prefix string) ([]units.State, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []units.State
	for name, e := range s.units {
		if strings.HasPrefix(name, prefix) {
			all = append(all, units.State{Name: name, Active: e.active, Sub: e.sub(), Text: e.text})
		}
	}
	return all, nil
}
