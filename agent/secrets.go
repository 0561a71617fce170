package agent

import (
	"log/slog"
	"os"
	"sync"
	"time"

	"bulkhead/cluster"
	"bulkhead/internal/sealed"
)

// secrets opens what is sealed, with the keys that are in a file of this host's.
// Another file in its place is taken up with one of the agent's next looks,
// without a restart; one that can't be used leaves the last good one in force.
// Reading takes as long as who wraps the file does, so no look waits for it.
type secrets struct {
	file   sealed.File
	log    *slog.Logger
	notify func()          // something has been read
	work   *sync.WaitGroup // of the agent

	mu    sync.Mutex
	ring  *sealed.Ring // nil: there is none yet
	seen  stamp        // of the file that was read last
	fresh bool         // it was read since the last look
	busy  bool         // it is being read
	retry time.Time    // not before, after it could not be
}

// stamp tells a file from another in its place.
type stamp struct {
	size     int64
	modified time.Time
}

// readAgain is how long to wait before a file is read again that can't be used.
const readAgain = 5 * time.Second

// again reports whether other keys have been read since it was last asked, and
// has the file read if it is another by now.
func (s *secrets) again(now time.Time) (fresh bool) {
	if s.file.Path == "" {
		return false
	}
	found, err := s.stat()
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh, s.fresh = s.fresh, false
	if err == nil && found != s.seen && !s.busy && !now.Before(s.retry) {
		s.busy = true
		s.work.Go(func() {
			s.read(found)
			s.notify()
		})
	}
	return fresh
}

func (s *secrets) stat() (stamp, error) {
	info, err := os.Stat(s.file.Path)
	if err != nil {
		return stamp{}, err
	}
	return stamp{info.Size(), info.ModTime()}, nil
}

// begin reads the file for the first time, if it is there.
func (s *secrets) begin() {
	if s.file.Path == "" {
		return
	}
	found, err := s.stat()
	if err != nil {
		s.log.Warn("there are no keys here to open secrets with: tenants whose secrets are sealed can't run", "error", err)
		return
	}
	s.read(found)
}

func (s *secrets) read(found stamp) {
	ring, err := s.file.Read()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy = false
	if err != nil {
		s.retry = time.Now().Add(readAgain)
		s.log.Error("secrets can be opened with the last good keys only", "error", err)
		return
	}
	s.ring, s.seen, s.fresh = ring, found, true
	s.log.Info("secrets can be opened", "keys", ring.IDs())
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
