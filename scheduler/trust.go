package scheduler

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// A host that comes and goes is distrusted: it keeps what serves and gets
// nothing new, for longer each time that it happens within a day.
const (
	flapLosses     = 3                // so many losses of presence
	flapWindow     = 10 * time.Minute // within so long
	distrustFirst  = 10 * time.Minute
	distrustMost   = 4 * time.Hour
	distrustMemory = 24 * time.Hour
)

// distrustFor is how long the n-th distrust lasts, n from 1.
func distrustFor(n int) time.Duration {
	lasts := distrustFirst
	for ; n > 1 && lasts < distrustMost; n-- {
		lasts *= 2
	}
	return min(lasts, distrustMost)
}

// judge distrusts hosts that flap, and trusts those whose time is over.
func (s *snapshot) judge(now time.Time) {
	for _, h := range s.hosts {
		if d := h.distrust; d != nil && !now.Before(d.Until) {
			s.trust(h, now)
			s.write(etcd.Delete(cluster.DistrustKey(h.name)))
		}
		if len(h.losses) == 0 {
			continue
		}
		h.losses = slices.DeleteFunc(h.losses, func(at time.Time) bool { return now.Sub(at) > flapWindow })
		if len(h.losses) >= flapLosses {
			s.distrust(h, now)
		}
		s.drop(h)
	}
}

func (s *snapshot) distrust(h *host, now time.Time) {
	if h.distrust == nil {
		if now.Sub(h.trusted) > distrustMemory {
			h.strikes = 0
		}
		h.strikes++
	}
	h.distrust = &cluster.Distrust{
		Reason: fmt.Sprintf("it was lost %d times within %s", len(h.losses), shortly(flapWindow)),
		Until:  now.Add(distrustFor(h.strikes)).UTC().Truncate(time.Second), Times: h.strikes,
	}
	h.losses = nil
	s.write(etcd.Put(cluster.DistrustKey(h.name), marshalled(h.distrust)))
}

// trust ends a distrust.
func (s *snapshot) trust(h *host, now time.Time) {
	h.distrust, h.trusted = nil, now
	s.markWaiting()
}

func (s *snapshot) seeDistrust(name string, e etcd.Event, now time.Time) {
	h := s.host(name, now)
	var d cluster.Distrust
	if !e.Deleted && json.Unmarshal(e.Value, &d) == nil {
		h.distrust, h.strikes = &d, max(d.Times, 1)
		return
	}
	if h.distrust != nil {
		s.trust(h, now)
	}
	s.drop(h)
}

// shortly writes a duration as a person would: 10m, not 10m0s.
func shortly(d time.Duration) string { return cluster.Duration(d).String() }
