package scheduler

import (
	"maps"
	"slices"
	"time"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// planner is what planning depends on besides the model.
type planner struct {
	grace time.Duration // how long a host may be gone before it is written off
	now   time.Time
	*snapshot
}

// plan decides for at most most of the tenants that something happened to,
// and lays what it decides over the model. What it returns is to be written:
// each group in one transaction.
func (s *snapshot) plan(now time.Time, grace time.Duration, most int) [][]etcd.Op {
	p := planner{grace, now, s}
	clear(s.full)
	var groups [][]etcd.Op
	hold, op := s.holds(now)
	if op != nil {
		groups = append(groups, []etcd.Op{*op})
	}
	for _, key := range sorted(s.outbox) {
		groups = append(groups, []etcd.Op{s.outbox[key]})
	}
	clear(s.outbox)
	for _, name := range s.next(most) {
		delete(s.dirty, name)
		if t := s.tenants[name]; t != nil {
			groups = append(groups, p.tenant(t, hold)...)
		}
	}
	if len(groups)+len(s.dirty) == 0 { // hosts are as they are, not as they will be
		groups = s.patch(now)
	}
	return groups
}

// next picks tenants to plan; all of them in order when they are not too many,
// so that plans can be foreseen.
func (s *snapshot) next(most int) []string {
	if len(s.dirty) <= most {
		return slices.Sorted(maps.Keys(s.dirty))
	}
	names := make([]string, 0, most)
	for name := range s.dirty {
		if names = append(names, name); len(names) == most {
			break
		}
	}
	return names
}

// tenant plans one tenant.
func (p planner) tenant(t *tenant, hold bool) [][]etcd.Op {
	c := &change{planner: p, tenant: t}
	switch {
	case p.unsealed(t): // planned again once that is done
		return nil
	case t.class == vanished && hold:
		c.held()
	case t.observed == nil:
		c.erase()
	default:
		c.arrange()
	}
	return c.done()
}

// change collects what is to be written for one tenant.
type change struct {
	planner
	tenant  *tenant
	force   *specRecord // the spec in force; nil: none
	applied int64       // its revision
	wanted  int         // instances that there are to be
	deletes []*placed
	other   []etcd.Op // applied spec and status
	groups  [][]etcd.Op
	reading bool     // it is planned again once its functions are read
	leaving []string // why instances leave where they are
	reasons []string // why instances are not where they should be
}

// erase removes all that there is of a tenant but its functions.
func (c *change) erase() {
	delete(c.waiting, c.tenant.name)
	c.rest(c.tenant)
	for _, p := range c.ordered() {
		c.delete(p)
	}
	c.deliver()
	if c.tenant.applied != nil {
		c.tenant.applied = nil
		c.brake.count(c.tenant)
		c.other = append(c.other, etcd.Delete(cluster.AppliedKey(c.tenant.name)))
	}
	if c.tenant.status != nil {
		c.tenant.status = nil
		c.other = append(c.other, etcd.Delete(cluster.TenantStatusKey(c.tenant.name)))
	}
}

// held changes nothing but says so.
func (c *change) held() {
	c.deliver()
	status := c.statusOf(cluster.PhaseHeld)
	status.Error = "its spec is gone, and so are many others at once: see " + cluster.BrakeKey
	c.status(status)
}
