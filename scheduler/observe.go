package scheduler

import (
	"encoding/json"
	"strings"
	"time"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

func (s *snapshot) seeInstance(host, instance string, e etcd.Event) {
	name, _, err := cluster.ParseInstance(instance)
	if err != nil {
		return
	}
	t, key := s.tenant(name), host+"/"+instance
	before := t.ready(t.placed[key])
	if e.Deleted {
		delete(t.seen, key)
	} else {
		var in cluster.Instance
		if json.Unmarshal(e.Value, &in) == nil {
			t.seen[key] = sight{in.Phase.Serves(), in.Placement}
		}
	}
	if t.ready(t.placed[key]) != before {
		s.mark(name)
	}
}

// ready says whether a placement's instance is up. What an agent reported of
// an earlier placement of the same name doesn't count.
func (t *tenant) ready(p *placed) bool {
	if p == nil {
		return false
	}
	in := t.seen[p.host+"/"+p.Instance]
	return in.serves && in.placement >= p.created
}

func (s *snapshot) seeStatus(rest string, e etcd.Event, now time.Time) {
	switch cluster.StatusPrefix + rest {
	case cluster.BrakeKey:
		s.seeBrake(e)
		return
	case cluster.HostBrakeKey:
		s.seeHostBrake(e)
		return
	}
	if host, ok := strings.CutPrefix(rest, "hosts/"); ok {
		s.seeDistrust(host, e, now)
		return
	}
	if id, ok := strings.CutPrefix(rest, "rollouts/"); ok {
		s.rolls.seeStatus(id, e)
		return
	}
	name, ok := strings.CutPrefix(rest, "tenants/")
	if !ok {
		return
	}
	t := s.tenant(name)
	var st cluster.Status
	if e.Deleted || json.Unmarshal(e.Value, &st) != nil {
		if t.status != nil || !e.Deleted {
			t.status = nil
			s.mark(name)
		}
		return
	}
	if t.status == nil || !sameStatus(*t.status, st) {
		s.mark(name)
	}
	t.status = &st
	t.sealed = max(t.sealed, st.Sealed)
	s.resume(t)
}
