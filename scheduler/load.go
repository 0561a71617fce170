package scheduler

import (
	"encoding/json"
	"time"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// mostInFlight bounds what a host may say.
const mostInFlight = 1e6

// seeLoad takes in how busy a host's instances are, and how many requests failed
// there. Instances that it doesn't name have nothing to do; what can't be read
// says nothing.
func (s *snapshot) seeLoad(name string, e etcd.Event, now time.Time) {
	var load cluster.Load
	if !e.Deleted && json.Unmarshal(e.Value, &load) != nil {
		return
	}
	h := s.host(name, now)
	h.failed = load.Failed
	for instance := range h.busy {
		if load.Instances[instance] <= 0 {
			delete(h.busy, instance)
		}
	}
	for instance, inFlight := range load.Instances {
		if inFlight <= 0 {
			continue
		}
		if h.busy == nil {
			h.busy = map[string]float64{}
		}
		h.busy[instance] = min(inFlight, mostInFlight)
		if p := h.placed[instance]; p != nil {
			s.active[p.Tenant] = true
		}
	}
	s.drop(h)
}

// busy is how many requests a placement has in flight.
func (s *snapshot) busy(p *placed) float64 {
	if h := s.hosts[p.host]; h != nil {
		return h.busy[p.Instance]
	}
	return 0
}

// scale samples the tenants that have something to do, or had, and has those
// planned that are to have more instances, or fewer.
func (s *snapshot) scale(now time.Time) {
	for name := range s.active {
		t := s.tenants[name]
		if t == nil {
			delete(s.active, name)
			continue
		}
		if t.applied == nil || t.applied.err != nil {
			continue // nothing is in force that could be scaled, for now
		}
		inFlight, serving := 0.0, 0
		for _, key := range sorted(t.placed) { // sums of fractions depend on their order
			p := t.placed[key]
			inFlight += s.busy(p)
			if t.ready(p) && p.leaving.IsZero() {
				serving++
			}
		}
		if t.demand == nil {
			t.demand = &demand{}
		}
		t.demand.add(now, inFlight)
		r := t.applied.spec.Replicas
		has := t.wanted(r)
		if want, why := t.demand.scale(now, has, serving, r); want != has {
			t.scale, t.scaled = want, why
			s.mark(name)
		}
		if t.demand.idle() && t.wanted(r) == least(r) {
			s.rest(t)
		}
	}
}

// rest forgets how busy a tenant was.
func (s *snapshot) rest(t *tenant) {
	t.demand, t.scale, t.scaled = nil, 0, ""
	delete(s.active, t.name)
}

// wanted is how many instances a tenant is to have.
func (t *tenant) wanted(r cluster.Replicas) int {
	return min(max(t.scale, least(r)), max(r.Max, least(r)))
}

// resume goes on with what an earlier leader had scaled a tenant to.
func (s *snapshot) resume(t *tenant) {
	if st := t.status; st != nil && st.Wanted > 0 && t.scale == 0 {
		t.scale, t.scaled = st.Wanted, st.Scaled
		s.active[t.name] = true
	}
}

// othersTake says whether the rest of those that serve can take what a
// placement has in flight.
func (c *change) othersTake(p *placed, rest []*placed, each int) bool {
	room := 0.0
	for _, q := range rest {
		if q != p && c.unready(q) == 0 && q.leaving.IsZero() {
			room += max(float64(each)-c.busy(q), 0)
		}
	}
	return c.busy(p) <= room
}
