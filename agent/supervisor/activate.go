package supervisor

import (
	"fmt"
)

// startSocket opens a unit's sockets. s.mu is held.
func (s *Supervisor) startSocket(name string, e *entry) error {
	if e.fds != nil {
		return nil
	}
	fds, err := e.socket.listen()
	if err != nil {
		e.active = "failed"
		return fmt.Errorf("cannot start unit %s: %w", name, err)
	}
	return s.listening(name, e, fds)
}

// listening notes that a unit's sockets are open. s.mu is held.
func (s *Supervisor) listening(name string, e *entry, fds []int) error {
	e.fds, e.active = fds, "active"
	s.hint()
	if err := s.store.note(name, note{}); err != nil {
		return err
	}
	return s.arm(name, e)
}

// arm waits for a connection on a unit's sockets, unless its service runs.
// s.mu is held.
func (s *Supervisor) arm(name string, e *entry) error {
	service := e.socket.Service
	if svc := s.units[service]; svc != nil && (svc.process != nil || svc.starting != nil || svc.retry != nil) {
		return nil
	}
	for _, fd := range e.fds {
		if err := s.poll.arm(fd, func() { s.activate(service) }); err != nil {
			return err
		}
	}
	return nil
}

// activate starts a service for a connection that waits.
func (s *Supervisor) activate(service string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.units[service]; e != nil && !s.closed && e.process == nil && e.starting == nil && e.retry == nil && !e.stopping {
		s.begin(service, e)
	}
}

// stopSocket closes a unit's sockets. s.mu is held.
func (s *Supervisor) stopSocket(e *entry) {
	for _, fd := range e.fds {
		s.poll.forget(fd)
	}
	closeAll(e.fds)
	e.fds, e.active = nil, "inactive"
	e.socket.unlink()
	s.store.unnote(e.file.name)
}
