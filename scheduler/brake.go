package scheduler

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// A wrong `etcdctl del --prefix` must not stop everyone. When more than half
// of at least brakeFrom tenants lose their spec within brakeWindow, removals
// are held, and a key says so. The tenants' return lifts the hold; deleting
// the key confirms the removals. There is no timer that would: held instances
// only cost what they use.
//
// A tenant whose applied spec is deleted together with its spec (as `bulkhead
// tenant rm` does) was meant to go and never counts.
const (
	brakeFrom   = 4
	brakeWindow = time.Minute
	brakeShows  = 20
)

type brake struct {
	standing bool            // the key is there
	written  *cluster.Brake  // what it says
	present  int             // tenants with a spec
	gone     map[string]bool // tenants whose spec vanished
	removed  []time.Time     // when tenants were let go whose removal was not meant for sure
}

// class is how the brake counts a tenant.
type class int

const (
	absent   class = iota // it was meant to go, or never was in force
	present               // it has a spec
	vanished              // its spec is gone but was in force
)

func (t *tenant) classify() class {
	switch {
	case t.observed != nil:
		return present
	case t.applied != nil && !t.released:
		return vanished
	}
	return absent
}

// count takes notice of a tenant that may have changed.
func (b *brake) count(t *tenant) {
	was := t.class
	t.class = t.classify()
	if was == t.class {
		return
	}
	switch was {
	case present:
		b.present--
	case vanished:
		delete(b.gone, t.name)
	}
	switch t.class {
	case present:
		b.present++
	case vanished:
		b.gone[t.name] = true
	}
}

// seeBrake follows the brake's key. Its end, unless we ended it because there
// was nothing left to hold, confirms what it held.
func (s *snapshot) seeBrake(e etcd.Event) {
	if e.Deleted {
		if s.brake.standing {
			s.confirm()
		}
		s.brake.standing, s.brake.written = false, nil
		return
	}
	var b cluster.Brake
	_ = json.Unmarshal(e.Value, &b) // whatever it says, it stands
	s.brake.standing, s.brake.written = true, &b
}

func (s *snapshot) confirm() {
	for name := range s.brake.gone {
		s.release(name)
	}
}

// release lets a vanished tenant go.
func (s *snapshot) release(name string) {
	t := s.tenants[name]
	t.released = true
	s.brake.count(t)
	s.mark(name)
}

// holds decides whether the removal of vanished tenants is held. It returns
// the brake's key to write or delete, if any.
func (s *snapshot) holds(now time.Time) (hold bool, op *etcd.Op) {
	b := &s.brake
	if !b.standing && len(b.gone) == 0 {
		return false, nil
	}
	b.removed = slices.DeleteFunc(b.removed, func(at time.Time) bool { return now.Sub(at) > brakeWindow })
	of := b.present + len(b.gone) + len(b.removed)
	switch {
	case b.standing && len(b.gone) == 0:
		b.standing, b.written = false, nil
		return false, &etcd.Op{Key: cluster.BrakeKey, Delete: true}
	case b.standing, of >= brakeFrom && 2*(of-b.present) > of:
		return true, b.say(of, now)
	}
	for name := range b.gone {
		s.release(name)
		b.removed = append(b.removed, now)
	}
	return false, nil
}

func (b *brake) say(of int, now time.Time) *etcd.Op {
	gone := slices.Sorted(maps.Keys(b.gone))
	some := gone[:min(len(gone), brakeShows)]
	if b.written != nil && b.written.Held == len(gone) && slices.Equal(b.written.Some, some) {
		return nil
	}
	since := now
	if b.written != nil && !b.written.Since.IsZero() {
		since = b.written.Since
		of = max(of, b.written.Of)
	}
	b.standing = true
	b.written = &cluster.Brake{
		Held: len(gone), Of: of, Some: some, Since: since,
		Reason: fmt.Sprintf("%d of %d tenants lost their spec at once; their instances are kept. Write the specs again to keep the tenants, or delete this key (etcdctl del %s) to remove them", len(gone), of, cluster.BrakeKey),
	}
	value, _ := json.Marshal(b.written)
	return &etcd.Op{Key: cluster.BrakeKey, Value: value}
}
