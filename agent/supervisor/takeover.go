package supervisor

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"bulkhead/units"
)

// takeOver goes on where the supervisor before left off: services that run
// are left alone, their sockets taken back from them, other sockets opened
// again, and services that ended meanwhile started again.
func (s *Supervisor) takeOver() error {
	texts, err := s.store.texts()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, text := range texts {
		if err := s.install(units.Unit{Name: name, Text: text}); err != nil {
			s.log.Error("unit left out", "unit", name, "error", err)
		}
	}
	var errs []error
	for name, e := range s.units {
		if e.file.kind() == "service" {
			s.takeService(name, e)
		}
	}
	for name, e := range s.units {
		if _, started := s.store.noted(name); started && e.file.kind() == "socket" && e.fds == nil {
			errs = append(errs, s.startSocket(name, e))
		}
	}
	if err := errors.Join(errs...); err != nil {
		s.log.Error("sockets stay closed", "error", err)
	}
	return nil
}

func (s *Supervisor) takeService(name string, e *entry) {
	n, started := s.store.noted(name)
	if !started || n.Process == nil {
		return
	}
	listens := false
	for _, socket := range s.socketsOf(name) {
		_, noted := s.store.noted(socket)
		listens = listens || noted
	}
	p, err := n.Process.adopt()
	if err != nil {
		s.log.Warn("service ended while nobody watched", "unit", name, "error", err)
		s.store.unnote(name)
		if !listens && e.service.Restart != "no" || e.service.Restart == "always" {
			s.again(name, e)
		}
		return
	}
	s.log.Info("took over a running service", "unit", name, "pid", p.PID)
	if listens {
		if err := s.takeSockets(name, p); err != nil {
			// Its clients would reach the old socket, new ones ours: one of
			// them must go.
			s.log.Warn("cannot take over sockets, starting the service again", "unit", name, "error", err)
			p.signal(unix.SIGKILL)
			<-p.exited
			p.release()
			s.store.unnote(name)
			return
		}
	}
	s.running(name, e, p)
}

// takeSockets takes back the sockets that a running service was started with.
func (s *Supervisor) takeSockets(name string, p *process) error {
	if p.Sockets == nil { // noted when a service had one socket unit, named as it is
		unit := partner(name, "socket")
		p.Sockets = slices.Repeat([]string{unit}, len(s.units[unit].socket.Addresses))
	}
	fds, err := p.takeSockets(len(p.Sockets))
	if err != nil {
		return err
	}
	for i, fd := range fds {
		if e := s.units[p.Sockets[i]]; e != nil {
			e.fds, e.active = append(e.fds, fd), "active"
		} else {
			closeAll(fds[i : i+1]) // its unit was removed meanwhile
		}
	}
	return nil
}

// Logs are bounded: each service keeps its last maxLog bytes and as many
// before them.
const (
	maxLog   = 4 << 20
	trimEach = 10 * time.Second
)

func (s *Supervisor) logPath(unit string) string { return filepath.Join(s.logs, unit+".log") }

// trimLogs moves what has grown too large aside. Services hold their logs
// open, so a log is copied and emptied, not renamed.
func (s *Supervisor) trimLogs() {
	ticker := time.NewTicker(trimEach)
	defer ticker.Stop()
	for {
		select {
		case <-s.closing:
			return
		case <-ticker.C:
		}
		files, _ := filepath.Glob(s.logPath("*"))
		for _, path := range files {
			if info, err := os.Stat(path); err == nil && info.Size() > maxLog {
				if err := trim(path, info.Size()); err != nil {
					s.log.Warn("cannot trim log", "file", path, "error", err)
				}
			}
		}
	}
}

// trim keeps the end of a log as path.1, and empties it.
func trim(path string, size int64) error {
	from, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(path+".1", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, io.NewSectionReader(from, size-maxLog, maxLog))
	return errors.Join(err, to.Close(), from.Truncate(0))
}
