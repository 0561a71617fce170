package scheduler

import (
	"encoding/json"
	"log/slog"
	"strings"
	"time"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// watched are the prefixes that a leader follows.
var watched = []string{
	cluster.TenantsPrefix, cluster.AppliedPrefix, cluster.HostsPrefix, cluster.CordonsPrefix,
	cluster.PlacementsPrefix, cluster.UnitsPrefix, cluster.InstancesPrefix, cluster.StatusPrefix,
}

// apply takes a batch of the watch into the model and returns the model to go
// on with: after a snapshot that is a new one, which keeps from the old only
// what etcd doesn't hold: since when hosts are gone and what was confirmed.
func (s *snapshot) apply(b etcd.Batch, now time.Time) *snapshot {
	next := s
	if b.Snapshot {
		next = newSnapshot()
		next.early = decodeAll(b.Events)
	}
	for _, e := range b.Events {
		next.event(e, now)
	}
	next.revision, next.early = b.Revision, nil
	if b.Snapshot {
		next.inherit(s)
	}
	return next
}

// inherit carries over what a list of etcd's keys can't tell.
func (s *snapshot) inherit(old *snapshot) {
	for name, h := range s.hosts {
		if before := old.hosts[name]; before != nil && before.presence == nil {
			h.gone = before.gone
		}
	}
	for name, t := range s.tenants {
		s.mark(name)
		if before := old.tenants[name]; before != nil {
			t.released = before.released
			s.brake.count(t)
		}
	}
	s.brake.removed = old.brake.removed
	if old.brake.standing && !s.brake.standing {
		s.confirm()
	}
}

func (s *snapshot) event(e etcd.Event, now time.Time) {
	for _, prefix := range watched {
		if rest, ok := strings.CutPrefix(e.Key, prefix); ok && rest != "" {
			s.route(prefix, rest, e, now)
			return
		}
	}
}

// route hands an event to what keeps its kind of key. Keys that don't have
// the form of theirs are nobody's and left alone.
func (s *snapshot) route(prefix, rest string, e etcd.Event, now time.Time) {
	first, second, two := strings.Cut(rest, "/")
	switch prefix {
	case cluster.TenantsPrefix:
		s.seeTenant(rest, e)
	case cluster.AppliedPrefix:
		s.seeApplied(rest, e)
	case cluster.HostsPrefix:
		s.seeHost(rest, e, now)
	case cluster.CordonsPrefix:
		s.seeCordon(rest, e, now)
	case cluster.StatusPrefix:
		s.seeStatus(rest, e)
	case cluster.PlacementsPrefix:
		if two {
			s.seePlacement(first, second, e, now)
		}
	case cluster.UnitsPrefix:
		if two {
			s.seeUnit(first, second, e)
		}
	case cluster.InstancesPrefix:
		if two {
			s.seeInstance(first, second, e)
		}
	}
}

func (s *snapshot) seeTenant(name string, e etcd.Event) {
	t := s.tenant(name)
	s.mark(name)
	switch early := s.early[name]; {
	case e.Deleted:
		t.observed = nil
	case early != nil:
		t.observed = early
	default:
		t.observed, t.released = t.applied.again(name, e), false
	}
	s.brake.count(t)
}

func (s *snapshot) seeApplied(name string, e etcd.Event) {
	t := s.tenant(name)
	switch {
	case e.Deleted:
		t.applied = nil
		s.mark(name)
	case t.applied == nil || t.applied.raw != string(e.Value):
		t.applied = t.observed.again(name, e)
		s.mark(name)
	}
	s.brake.count(t)
}

func (s *snapshot) seeHost(name string, e etcd.Event, now time.Time) {
	h := s.host(name, now)
	defer s.markHost(h)
	s.index = nil
	if e.Deleted {
		h.presence, h.gone = nil, now
		if h.empty() {
			delete(s.hosts, name)
		}
		return
	}
	var presence cluster.Host
	if err := json.Unmarshal(e.Value, &presence); err != nil || presence.Name != name {
		slog.Warn("a host's presence cannot be read, keeping the last good one", "host", name, "error", err)
		return
	}
	h.presence, h.off = &presence, false
}

func (s *snapshot) seeCordon(name string, e etcd.Event, now time.Time) {
	h := s.host(name, now)
	s.markWaiting() // they have more to choose from, or another reason
	if e.Deleted {
		h.cordon = nil
		if h.empty() {
			delete(s.hosts, name)
		}
		return
	}
	reason := string(e.Value)
	h.cordon = &reason
}

func (s *snapshot) seePlacement(host, instance string, e etcd.Event, now time.Time) {
	name, _, err := cluster.ParseInstance(instance)
	if err != nil {
		return
	}
	key := host + "/" + instance
	if e.Deleted {
		if s.tenant(name).placed[key] != nil {
			s.remove(host, name, instance)
			s.mark(name)
			s.markWaiting()
		}
		return
	}
	p := &placed{host: host, sum: sum(e.Value), created: e.Created}
	if old := s.tenant(name).placed[key]; old != nil && old.sum == p.sum {
		if old.created != e.Created {
			old.created = e.Created
			s.mark(name)
		}
		return
	}
	if err := json.Unmarshal(e.Value, &p.Placement); err != nil || p.Tenant != name || p.Instance != instance {
		// Not ours; planning writes it anew, for the sum differs.
		p.Placement = cluster.Placement{Tenant: name, Instance: instance}
	}
	s.put(p, now)
	s.mark(name)
}

func (s *snapshot) seeUnit(host, unit string, e etcd.Event) {
	name, ok := unitTenant(unit)
	if !ok {
		return
	}
	t, key := s.tenant(name), host+"/"+unit
	if got, there := t.units[key]; e.Deleted && there {
		delete(t.units, key)
		s.mark(name)
	} else if now := sum(e.Value); !e.Deleted && (!there || got != now) {
		t.units[key] = now
		s.mark(name)
	}
}

// unitTenant returns whose instance a unit belongs to: bulkhead-<id>.slice or
// bulkhead-<id>-<n>.<kind>.
func unitTenant(unit string) (string, bool) {
	rest, ok := strings.CutPrefix(unit, "bulkhead-")
	id, _, dot := strings.Cut(rest, ".")
	id, _, _ = strings.Cut(id, "-")
	name := strings.ReplaceAll(id, "_", "-")
	return name, ok && dot && cluster.CheckTenant(name) == nil && unit != "bulkhead-proxy.socket" && unit != "bulkhead-proxy.service"
}
