package scheduler

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// When more than half of the hosts vanish at once it is more likely that etcd
// or the network is in trouble than that they died, and the rest would not
// have room for their instances anyway. Nothing is moved then, and a key says
// so, until enough of them are back or someone deletes the key: then they
// count as dead. A pair of hosts that vanishes is the least that is braked;
// of two hosts one may.
const lossFrom = 2

// losses is how the scheduler stands to hosts that are gone.
type losses struct {
	standing bool           // the key is there
	written  *cluster.Brake // what it says
}

// lost takes note of the end of a host's presence. One that was told to boot is
// not to blame.
func (h *host) lost(now time.Time, expected bool) {
	if h.gone = now; !expected {
		h.losses = append(h.losses, now)
	}
}

// writeOff decides which hosts that are gone for the grace are given up.
func (s *snapshot) writeOff(now time.Time, grace time.Duration) {
	held := s.weigh(now)
	for _, h := range s.hosts {
		if h.presence == nil && !h.off && (!held || h.confirmed) && h.writtenOff(now, grace) {
			h.off = true
			s.markHost(h)
			s.drop(h)
		}
	}
}

// weigh says whether too many hosts are gone at once to believe it, and has
// the brake's key follow.
func (s *snapshot) weigh(now time.Time) (held bool) {
	there, gone := 0, []string(nil)
	for _, h := range s.hosts {
		switch {
		case h.presence != nil:
			there++
		case s.rolls.expected(h.name): // it will be back
		case !h.off && !h.confirmed && (len(h.placed) > 0 || h.seen):
			gone = append(gone, h.name)
		}
	}
	if len(gone) < lossFrom || len(gone) <= there {
		if s.losses.standing {
			s.losses = losses{}
			s.write(etcd.Delete(cluster.HostBrakeKey))
			for _, name := range gone { // the others are on their way, too
				s.hosts[name].gone = now
			}
		}
		return false
	}
	for _, name := range gone {
		s.hosts[name].losses = nil // not its fault
	}
	s.sayLost(gone, there+len(gone), now)
	return true
}

func (s *snapshot) sayLost(gone []string, of int, now time.Time) {
	slices.Sort(gone)
	some, since := gone[:min(len(gone), brakeShows)], now
	if w := s.losses.written; w != nil {
		if w.Held == len(gone) && w.Of == of && slices.Equal(w.Some, some) {
			return
		}
		since = w.Since
	}
	s.losses.standing = true
	s.losses.written = &cluster.Brake{
		Held: len(gone), Of: of, Some: some, Since: since,
		Reason: fmt.Sprintf("%d of %d hosts vanished at once, which looks like trouble with etcd or the network: nothing is moved away from them. This ends when enough of them are back; if they are dead, delete this key (etcdctl del %s), and their instances start elsewhere", len(gone), of, cluster.HostBrakeKey),
	}
	s.write(etcd.Put(cluster.HostBrakeKey, marshalled(s.losses.written)))
}

// seeHostBrake follows the key. Its end, unless we ended it, says that the
// hosts that are gone are dead.
func (s *snapshot) seeHostBrake(e etcd.Event) {
	if !e.Deleted {
		var b cluster.Brake
		_ = json.Unmarshal(e.Value, &b) // whatever it says, it stands
		s.losses = losses{true, &b}
		return
	}
	if s.losses.standing {
		for _, h := range s.hosts {
			h.confirmed = h.presence == nil
		}
	}
	s.losses = losses{}
}

// write has something written with the next plan that belongs to no tenant.
func (s *snapshot) write(op etcd.Op) { s.outbox[op.Key] = op }
