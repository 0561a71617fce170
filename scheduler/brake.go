package scheduler

import (
	"encoding/json"
	"fmt"
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
	standing bool           // the key is there
	written  *cluster.Brake // what it says
	removed  []time.Time    // when tenants were removed whose removal was not meant for sure
}

// vanished says whether the tenant's spec is gone but was in force.
func (t *tenant) vanished() bool { return t.observed == nil && t.applied != nil && !t.released }

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
	for name, t := range s.tenants {
		if t.vanished() {
			t.released = true
			s.mark(name)
		}
	}
}

// holds decides whether the removal of vanished tenants is held, given those
// to be planned now. It returns the brake's key to write or delete, if any.
func (s *snapshot) holds(now time.Time) (hold bool, op *etcd.Op) {
	if !s.brake.standing && !s.anyVanished() {
		return false, nil
	}
	var gone []string
	present := 0
	for name, t := range s.tenants {
		switch {
		case t.vanished():
			gone = append(gone, name)
		case t.observed != nil:
			present++
		}
	}
	s.brake.removed = slices.DeleteFunc(s.brake.removed, func(at time.Time) bool { return now.Sub(at) > brakeWindow })
	of := present + len(gone) + len(s.brake.removed)
	switch {
	case s.brake.standing && len(gone) == 0:
		s.brake.standing, s.brake.written = false, nil
		return false, &etcd.Op{Key: cluster.BrakeKey, Delete: true}
	case s.brake.standing, of >= brakeFrom && 2*(of-present) > of:
		return true, s.brake.say(gone, of, now)
	}
	for _, name := range gone {
		s.tenants[name].released = true
		s.brake.removed = append(s.brake.removed, now)
	}
	return false, nil
}

// anyVanished looks only at tenants that something happened to: one that
// vanished earlier has been removed, or the brake stands.
func (s *snapshot) anyVanished() bool {
	for name := range s.dirty {
		if t := s.tenants[name]; t != nil && t.vanished() {
			return true
		}
	}
	return false
}

func (b *brake) say(gone []string, of int, now time.Time) *etcd.Op {
	slices.Sort(gone)
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
