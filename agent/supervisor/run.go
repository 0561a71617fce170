package supervisor

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// retryMax is the longest wait before a service that keeps failing is
	// started again.
	retryMax = 30 * time.Second
	// settled is how long a service has to run for its next failure to count
	// as the first.
	settled = 10 * time.Second
)

func (e *entry) sub() string {
	switch {
	case e.file.kind() != "socket":
		if e.process != nil {
			return "running"
		}
		return "dead"
	case e.fds == nil:
		return "dead"
	}
	return "listening"
}

// partner returns the other unit of a socket and its service.
func partner(name, kind string) string {
	return strings.TrimSuffix(name, filepath.Ext(name)) + "." + kind
}

// socketsOf returns the socket units of a service, in the order in which it
// gets their descriptors. s.mu is held.
func (s *Supervisor) socketsOf(service string) []string {
	var names []string
	for name, e := range s.units {
		if e.file.kind() == "socket" && e.socket.Service == service {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// handed are the sockets that a service starts with: of each the descriptor,
// its name, and the unit that it is of.
type handed struct {
	fds          []int
	names, units []string
}

// sockets are those of a service that are open. s.mu is held.
func (s *Supervisor) sockets(service string) (h handed) {
	for _, unit := range s.socketsOf(service) {
		e := s.units[unit]
		for _, fd := range e.fds {
			h.fds, h.names, h.units = append(h.fds, fd), append(h.names, e.socket.Name), append(h.units, unit)
		}
	}
	return h
}

// startService starts a service and waits for that. s.mu is held, and given
// back.
func (s *Supervisor) startService(ctx context.Context, name string, e *entry) error {
	if s.closed {
		s.mu.Unlock()
		return fmt.Errorf("cannot start unit %s: the supervisor is closed", name)
	}
	if e.process != nil {
		s.mu.Unlock()
		return nil
	}
	for _, socket := range s.socketsOf(name) {
		if err := s.startSocket(socket, s.units[socket]); err != nil {
			s.mu.Unlock()
			return err
		}
	}
	if e.starting == nil {
		s.begin(name, e)
	}
	starting := e.starting
	s.mu.Unlock()
	select {
	case <-starting:
	case <-ctx.Done():
		return fmt.Errorf("cannot wait for unit %s: %w", name, ctx.Err())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return e.err
}

// begin launches a service beside whoever holds s.mu.
func (s *Supervisor) begin(name string, e *entry) {
	if e.retry != nil {
		e.retry.Stop()
		e.retry = nil
	}
	starting := make(chan struct{})
	e.starting, e.active = starting, "activating"
	spec, sockets := e.service, s.sockets(name)
	s.hint()
	s.work.Go(func() {
		p, err := s.launch(spec, sockets, s.logPath(name))
		s.mu.Lock()
		defer s.mu.Unlock()
		e.starting, e.err = nil, err
		close(starting)
		if err != nil {
			s.log.Error("service does not start", "unit", name, "error", err)
			s.again(name, e)
			return
		}
		s.running(name, e, p)
	})
}

// running notes that a service runs, and watches it. s.mu is held.
func (s *Supervisor) running(name string, e *entry, p *process) {
	e.process, e.active, e.begun = p, "active", time.Now()
	s.hint()
	s.work.Go(func() {
		select {
		case <-p.exited:
		case <-s.closing:
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.ended(name, e)
		close(p.handled)
	})
}

// ended decides what follows a service's end. s.mu is held.
func (s *Supervisor) ended(name string, e *entry) {
	status := e.process.status
	e.process.release()
	e.process = nil
	s.store.unnote(name)
	s.cgroups.remove(filepath.Join(slicePath(e.service.Slice), name))
	// An adopted service's status is unknown. If it has a socket it can sleep
	// until someone wants it.
	calm := status.clean || !status.known && len(s.sockets(name).fds) > 0
	switch {
	case e.stopping || s.closed:
		e.active = "inactive"
	case e.service.Restart == "always", e.service.Restart == "on-failure" && !calm:
		if time.Since(e.begun) > settled {
			e.failures = 0
		}
		s.log.Warn("service ended, starting it again", "unit", name, "how", status.reason)
		s.again(name, e)
	default:
		e.active = "inactive"
		s.rearm(name)
	}
	s.hint()
}

// rearm lets a service's sockets wake it. s.mu is held.
func (s *Supervisor) rearm(service string) {
	for _, name := range s.socketsOf(service) {
		if err := s.arm(name, s.units[name]); err != nil {
			s.log.Error("socket will not wake its service", "unit", name, "error", err)
		}
	}
}

// again starts a service that failed after a while, each time a longer one.
// s.mu is held.
func (s *Supervisor) again(name string, e *entry) {
	if s.closed || e.stopping {
		e.active = "failed"
		return
	}
	wait := min(e.service.RestartWait<<min(e.failures, 16), retryMax)
	e.failures++
	e.active = "activating"
	e.retry = time.AfterFunc(wait, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if e.retry != nil && !s.closed && s.units[name] == e {
			s.begin(name, e)
		}
	})
	s.hint()
}

// stopService ends a service, with force when its time to stop is over.
func (s *Supervisor) stopService(ctx context.Context, e *entry) error {
	s.mu.Lock()
	e.stopping = true
	defer func() {
		s.mu.Lock()
		e.stopping = false
		s.mu.Unlock()
	}()
	if e.retry != nil {
		e.retry.Stop()
		e.retry, e.active = nil, "inactive"
	}
	starting := e.starting
	s.mu.Unlock()
	if starting != nil {
		<-starting // a launch is short
	}
	s.mu.Lock()
	p := e.process
	s.mu.Unlock()
	if p == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, e.service.StopTimeout)
	defer cancel()
	p.terminate(ctx)
	select {
	case <-p.exited:
	case <-ctx.Done():
	}
	p.signal(unix.SIGKILL)
	<-p.exited
	select {
	case <-p.handled:
		return nil
	case <-s.closing:
		return errors.New("cannot wait for a service to end: the supervisor is closing")
	}
}
