package supervisor

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Supervisor runs units. Make it with Open.
type Supervisor struct {
	store   store
	logs    string
	log     *slog.Logger
	users   users
	cgroups cgroups
	poll    *poller
	lock    *os.File
	jailer  jailerBinary
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
	jailer, err := openJailer()
	if err != nil {
		poll.close()
		lock.Close()
		return nil, err
	}
	s := &Supervisor{
		store: store, logs: logs, log: log, users: users, cgroups: findCgroups(), poll: poll, lock: lock, jailer: jailer,
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
	s.jailer.close()
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
