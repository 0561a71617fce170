package rollout

import "time"

// Sights are what a leader remembers: since when something has been as it is.
// Stamps in keys are other clocks' and only for people.
type Sights struct {
	seen  map[string]sight
	asked map[string]bool
}

type sight struct {
	what  string
	since time.Time
}

// NewSights are those of a leader that has seen nothing yet.
func NewSights() *Sights { return &Sights{map[string]sight{}, map[string]bool{}} }

// lasts is for how long key has been what it is.
func (s *Sights) lasts(key, what string, now time.Time) time.Duration {
	s.asked[key] = true
	if was, ok := s.seen[key]; ok && was.what == what {
		return now.Sub(was.since)
	}
	s.seen[key] = sight{what, now}
	return 0
}

// forget drops what nobody asked for while everything was looked at.
func (s *Sights) forget() {
	for key := range s.seen {
		if !s.asked[key] {
			delete(s.seen, key)
		}
	}
	clear(s.asked)
}
