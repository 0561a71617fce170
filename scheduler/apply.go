package scheduler

import (
	"encoding/json"
	"strings"
	"time"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// watched are the prefixes that a leader follows. Of functions and their
// copies it lists the keys alone: all code together would fill its memory.
var watched = []etcd.Prefix{
	{Name: cluster.TenantsPrefix}, {Name: cluster.AppliedPrefix}, {Name: cluster.StatusPrefix},
	{Name: cluster.HostsPrefix}, {Name: cluster.InventoryPrefix}, {Name: cluster.CordonsPrefix}, {Name: cluster.DrainsPrefix}, {Name: cluster.LoadsPrefix},
	{Name: cluster.SealingPrefix}, {Name: cluster.RevocationsPrefix},
	{Name: cluster.PlacementsPrefix}, {Name: cluster.UnitsPrefix}, {Name: cluster.RoutesPrefix}, {Name: cluster.InstancesPrefix},
	{Name: cluster.RolloutsPrefix}, {Name: cluster.CyclesPrefix}, {Name: cluster.OrdersPrefix}, {Name: cluster.ReportsPrefix}, {Name: cluster.AsksPrefix},
	{Name: cluster.FunctionsPrefix, KeysOnly: true}, {Name: cluster.ManifestsPrefix}, {Name: cluster.CopiesPrefix, KeysOnly: true},
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
		next.event(e, now, b.Snapshot)
	}
	next.revision, next.early = b.Revision, nil
	if b.Snapshot {
		next.inherit(s, now)
	}
	next.rolls.stir(len(b.Events) > 0)
	return next
}

// inherit carries over what a list of etcd's keys can't tell.
func (s *snapshot) inherit(old *snapshot, now time.Time) {
	for name, before := range old.hosts {
		if s.hosts[name] == nil && before.presence == nil && len(before.losses) == 0 && (before.off || !before.seen) {
			continue
		}
		s.host(name, now).inherit(before, now, s.rolls.expected(name))
	}
	for name, t := range s.tenants {
		s.mark(name)
		if before := old.tenants[name]; before != nil {
			t.released = before.released
			if t.demand, t.scale, t.scaled = before.demand, before.scale, before.scaled; t.demand != nil {
				s.active[name] = true
			}
			for name, f := range t.functions {
				if was := before.functions[name]; was != nil && was.revision == f.revision {
					f.checked, f.wrong = was.checked, was.wrong
				}
			}
			s.brake.count(t)
		}
	}
	s.brake.removed = old.brake.removed
	s.rolls.inherit(&old.rolls)
	s.moves, s.evened, s.evening = old.moves, old.evened, old.evening
	if old.brake.standing && !s.brake.standing {
		s.confirm()
	}
}

// inherit carries over a host's history.
func (h *host) inherit(before *host, now time.Time, expected bool) {
	h.member = h.member || h.claim == nil && before.member
	h.seen = h.seen || before.seen
	h.losses, h.strikes, h.trusted = before.losses, max(h.strikes, before.strikes), before.trusted
	switch {
	case before.presence == nil:
		h.gone, h.off, h.confirmed = before.gone, before.off, before.confirmed
		if h.presence != nil {
			h.off, h.confirmed = false, false
		}
	case h.presence == nil:
		h.lost(now, expected)
	default:
		h.back = before.back
	}
}

func (s *snapshot) event(e etcd.Event, now time.Time, listed bool) {
	for _, prefix := range watched {
		if rest, ok := strings.CutPrefix(e.Key, prefix.Name); ok && rest != "" {
			if first, second, ok := strings.Cut(rest, "/"); ok {
				s.seePair(prefix.Name, first, second, e, now, listed)
			}
			s.seeOne(prefix.Name, rest, e, now)
			return
		}
	}
}

// seeOne hands an event to what keeps its kind of key, which has one name
// after the prefix. Keys that don't have the form of theirs are nobody's and
// left alone.
func (s *snapshot) seeOne(prefix, rest string, e etcd.Event, now time.Time) {
	switch prefix {
	case cluster.TenantsPrefix:
		s.seeTenant(rest, e)
	case cluster.AppliedPrefix:
		s.seeApplied(rest, e)
	case cluster.HostsPrefix:
		s.seeHost(rest, e, now)
	case cluster.CordonsPrefix:
		s.seeReason(rest, e, now, cordonOf)
	case cluster.DrainsPrefix:
		s.seeReason(rest, e, now, drainOf)
	case cluster.LoadsPrefix:
		s.seeLoad(rest, e, now)
	case cluster.RevocationsPrefix:
		s.seeRevocations(rest, e)
	case cluster.SealingPrefix:
		s.seeSealing(e)
	case cluster.InventoryPrefix:
		s.seeInventory(rest, e, now)
	case cluster.StatusPrefix:
		s.seeStatus(rest, e, now)
	default:
		s.rolls.see(prefix, rest, e)
	}
}

// seePair is seeOne for keys with more names than one.
func (s *snapshot) seePair(prefix, first, second string, e etcd.Event, now time.Time, listed bool) {
	switch prefix {
	case cluster.PlacementsPrefix:
		s.seePlacement(first, second, e, now)
	case cluster.UnitsPrefix:
		s.seeUnit(first, second, e)
	case cluster.RoutesPrefix:
		s.seeRoute(first, second, e)
	case cluster.InstancesPrefix:
		s.seeInstance(first, second, e)
	case cluster.FunctionsPrefix:
		s.seeFunction(first, second, e, listed)
	case cluster.ManifestsPrefix:
		s.seeManifest(first, second, e)
	case cluster.CopiesPrefix:
		if tenant, function, ok := strings.Cut(second, "/"); ok {
			s.seeCopy(first, tenant, function, e)
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
	t.unsealable = ""
	s.wantSpec(name, t)
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
	s.wantApplied(name, t)
	s.brake.count(t)
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
