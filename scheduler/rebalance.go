package scheduler

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"bulkhead/cluster"
)

// Placements are sticky; only when a host is used well above the average are
// some moved, the largest that help, a few at a time, until no host is used
// more than a little above it.
const (
	evenEvery  = 10 * time.Second
	evenFrom   = 0.2  // above the average: begin
	evenUntil  = 0.1  // above the average: enough
	movesLeast = 2    // at a time
	movesShare = 0.02 // of the hosts, if that is more
	moveGives  = 5 * time.Minute
)

// move is a placement's way to another host.
type move struct {
	to    string
	why   string
	since time.Time
}

// share is how much of its scarcest resource a host has given away.
func (h *host) share() float64 { return shareOf(h.used, h.presence.Capacity) }

func shareOf(used, all cluster.Resources) float64 {
	return max(
		float64(used.Memory)/float64(max(all.Memory, 1)),
		used.CPU/max(all.CPU, epsilon),
		float64(used.Pids)/float64(max(all.Pids, 1)),
	)
}

// even looks from time to time whether hosts are used very differently, and
// begins moves that help.
func (s *snapshot) even(now time.Time) {
	if now.Sub(s.evened) < evenEvery {
		return
	}
	s.evened = now
	s.endMoves(now)
	if s.losses.standing || s.brake.standing {
		return
	}
	hosts, mean := s.open()
	if len(hosts) < 2 {
		return
	}
	if fullest := hosts[0].after; fullest <= mean+evenUntil {
		s.evening = false
	} else if fullest > mean+evenFrom {
		s.evening = true
	}
	if !s.evening {
		return
	}
	most := max(movesLeast, int(movesShare*float64(len(hosts))))
	for range most - len(s.moves) {
		if !s.moveOne(hosts, mean, now) {
			return
		}
	}
}

// endMoves forgets moves that are done, and gives up those that take too long.
func (s *snapshot) endMoves(now time.Time) {
	for key, m := range s.moves {
		p := s.placement(key)
		if p == nil {
			delete(s.moves, key)
		} else if now.Sub(m.since) > moveGives {
			delete(s.moves, key)
			s.mark(p.Tenant)
		}
	}
}

// use is how much a host is used once the moves that have begun are done.
type use struct {
	*host
	used  cluster.Resources
	after float64
}

func (u *use) add(r cluster.Resources, sign int) {
	u.used = add(u.used, r, sign)
	u.after = shareOf(u.used, u.presence.Capacity)
}

// open returns the hosts that take part in evening out, the fullest first, and
// how much they are used on average.
func (s *snapshot) open() (hosts []*use, mean float64) {
	byName := map[string]*use{}
	for name, h := range s.hosts {
		if h.presence != nil && h.closed() == "" {
			byName[name] = &use{h, h.used, h.share()}
			hosts = append(hosts, byName[name])
		}
	}
	for key, m := range s.moves { // they count where they go
		p := s.placement(key)
		if p == nil {
			continue
		}
		if from := byName[p.host]; from != nil {
			from.add(p.reserved(), -1)
		}
		if to := byName[m.to]; to != nil && !s.tenants[p.Tenant].on(m.to) {
			to.add(p.reserved(), 1)
		}
	}
	slices.SortFunc(hosts, byUse)
	for _, u := range hosts {
		mean += u.after / float64(len(hosts))
	}
	return hosts, mean
}

func byUse(a, b *use) int { return cmp.Or(cmp.Compare(b.after, a.after), cmp.Compare(a.name, b.name)) }

// moveOne begins the move that relieves the fullest host that can be relieved.
func (s *snapshot) moveOne(hosts []*use, mean float64, now time.Time) bool {
	for _, from := range hosts {
		if from.after <= mean+evenUntil {
			return false
		}
		for _, p := range largest(from.placed) {
			if to := s.receiver(p, from, hosts); to != nil {
				why := fmt.Sprintf("%s is used to %.0f%%, %s to %.0f%%, hosts on average to %.0f%%", from.name, 100*from.after, to.name, 100*to.after, 100*mean)
				s.moves[p.host+"/"+p.Instance] = move{to.name, why, now}
				s.mark(p.Tenant)
				from.add(p.reserved(), -1)
				to.add(p.reserved(), 1)
				slices.SortFunc(hosts, byUse)
				return true
			}
		}
	}
	return false
}

// largest returns a host's placements, those first that take most of it.
func largest(of map[string]*placed) []*placed {
	return slices.SortedFunc(maps.Values(of), func(a, b *placed) int {
		x, y := a.reserved(), b.reserved()
		return cmp.Or(cmp.Compare(y.Memory, x.Memory), cmp.Compare(y.CPU, x.CPU), cmp.Compare(a.Instance, b.Instance))
	})
}

// receiver finds the emptiest host that may take a placement and is less used
// afterwards than the one it leaves. Only tenants at rest are moved.
func (s *snapshot) receiver(p *placed, from *use, hosts []*use) *use {
	t := s.tenants[p.Tenant]
	if t == nil || t.applied == nil || t.applied.err != nil || s.dirty[t.name] || s.waiting[t.name] || !s.atRest(t) {
		return nil
	}
	spec := &t.applied.spec
	relieved := *from
	relieved.add(p.reserved(), -1)
	for _, to := range slices.Backward(hosts) {
		receiving := *to
		receiving.add(p.reserved(), 1)
		if receiving.after >= relieved.after {
			return nil // the others are fuller still
		}
		if to.takes(spec) && !t.on(to.name) && to.sameValue(from.host, spec.Placement.Spread) {
			return to
		}
	}
	return nil
}

// atRest says that all of a tenant's instances serve and none is on its way.
func (s *snapshot) atRest(t *tenant) bool {
	for key, p := range t.placed {
		if _, moves := s.moves[key]; moves || !t.ready(p) || !p.leaving.IsZero() {
			return false
		}
	}
	return true
}

func (t *tenant) on(host string) bool {
	for _, p := range t.placed {
		if p.host == host {
			return true
		}
	}
	return false
}

// sameValue says whether two hosts have the same value of a label to spread
// over, if there is one.
func (h *host) sameValue(other *host, label string) bool {
	return label == "" || h.presence.Labels[label] == other.presence.Labels[label]
}

// placement finds one by host/instance.
func (s *snapshot) placement(key string) *placed {
	if name, instance, _ := strings.Cut(key, "/"); s.hosts[name] != nil {
		return s.hosts[name].placed[instance]
	}
	return nil
}

// moved says why a placement is on its way to another host, or "". When that
// one can't take it any more it stays.
func (c *change) moved(p *placed, spec *cluster.Spec) string {
	if len(c.moves) == 0 {
		return ""
	}
	key := p.host + "/" + p.Instance
	m, ok := c.moves[key]
	if !ok {
		return ""
	}
	to := c.hosts[m.to]
	if to != nil && to.presence != nil && to.closed() == "" && (c.tenant.on(m.to) || to.takes(spec)) {
		return m.why
	}
	delete(c.moves, key)
	return ""
}

// target is where one that leaves is to be moved, if that is decided and has
// not begun.
func (c *change) target(leave []*placed, spec *cluster.Spec) (*host, string) {
	if len(c.moves) == 0 {
		return nil, ""
	}
	for _, p := range leave {
		m, ok := c.moves[p.host+"/"+p.Instance]
		if to := c.hosts[m.to]; ok && !c.tenant.on(m.to) && to != nil && to.presence != nil && to.takes(spec) {
			return to, m.why
		}
	}
	return nil, ""
}
