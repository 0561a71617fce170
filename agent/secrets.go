package agent

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"bulkhead/cluster"
	"bulkhead/internal/sealed"
)

// secrets opens what is sealed, with the keys that are in a file of this host's.
// Another file in its place is taken up with the agent's next look, without a
// restart; one that can't be used leaves the last good one in force.
type secrets struct {
	open func() (*sealed.Ring, error)
	path string
	log  *slog.Logger

	mu   sync.Mutex
	ring *sealed.Ring // nil: there is none yet
	seen stamp        // of the file that was read last
}

// stamp tells a file from another in its place.
type stamp struct {
	size     int64
	modified time.Time
	there    bool
}

// again reads the file if it is another than before, and reports whether that
// changed what can be opened.
func (s *secrets) again() bool {
	if s.path == "" {
		return false
	}
	info, err := os.Stat(s.path)
	now := stamp{there: err == nil}
	if err == nil {
		now.size, now.modified = info.Size(), info.ModTime()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if now == s.seen {
		return false
	}
	ring, err := s.open()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s.seen = now
		s.log.Warn("there are no keys here to open secrets with: tenants whose secrets are sealed can't run", "file", s.path)
		return false
	case err != nil:
		s.log.Error("the last good keys stay in force", "error", err)
		return false // tried again: who wraps them may be away
	}
	s.seen, s.ring = now, ring
	s.log.Info("secrets can be opened", "keys", ring.IDs())
	return true
}

// opens are the IDs of the keys there are.
func (s *secrets) opens() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ring == nil {
		return nil
	}
	return s.ring.IDs()
}

// keys returns a tenant's keys, opened.
func (s *secrets) keys(tenant string, keys []cluster.Key) ([]cluster.Key, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ring.OpenKeys(tenant, keys)
}

// functions opens those functions that have sealed secrets, in place.
func (s *secrets) functions(tenant string, all map[string]cluster.Function) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, f := range all {
		open, err := s.ring.OpenFunction(tenant, name, f)
		if err != nil {
			return err
		}
		all[name] = open
	}
	return nil
}
