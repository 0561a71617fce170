package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"bulkhead/units"
)

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
