package scheduler

import (
	"fmt"
	"reflect"

	"bulkhead/cluster"
)

// number is the lowest that no placement of the tenant has.
func (c *change) number() int {
	taken := map[string]bool{}
	for _, p := range c.tenant.placed {
		taken[p.Instance] = true
	}
	n := 0
	for taken[cluster.InstanceName(c.tenant.name, n)] {
		n++
	}
	return n
}

func (c *change) content(h *host, n int, spec *cluster.Spec, why string) cluster.Placement {
	return cluster.Placement{
		Tenant: c.tenant.name, Instance: cluster.InstanceName(c.tenant.name, n),
		Image: h.presence.Image, Runner: h.presence.Paths.Runner, Keys: placedKeys(spec.Keys), Revoked: c.tenant.refused(), Resources: spec.Resources, Limits: spec.Limits, Sleep: sleepOf(spec), Egress: spec.Egress, Runtime: spec.Runtime,
		Spec: c.applied, Reason: why,
	}
}

// update brings what a placement says in line with the spec; one that is
// outdated is replaced instead. While its host is gone, all stays:
// nobody is there to change it, and the room is unknown.
func (c *change) update(p *placed, spec *cluster.Spec) *placed {
	h := c.hosts[p.host]
	if h.presence == nil {
		return p
	}
	_, n, _ := cluster.ParseInstance(p.Instance)
	next := c.content(h, n, spec, p.Reason)
	if next.Reason == "" {
		next.Reason = "found here"
	}
	return c.rewrite(p, next)
}

// refresh is update for one that must leave but may have to wait for that: all
// but what it takes of its host.
func (c *change) refresh(p *placed, spec *cluster.Spec) *placed {
	h := c.hosts[p.host]
	if h.presence == nil {
		return p
	}
	_, n, _ := cluster.ParseInstance(p.Instance)
	next := c.content(h, n, spec, p.Reason)
	next.Resources, next.Sleep = p.Resources, p.Sleep
	next.Runtime = p.Runtime
	if p.Image != "" {
		next.Image = p.Image
	}
	if p.Runner != "" {
		next.Runner = p.Runner
	}
	return c.rewrite(p, next)
}

func (c *change) rewrite(p *placed, next cluster.Placement) *placed {
	if reflect.DeepEqual(next, p.Placement) {
		return p
	}
	if q := (&placed{host: p.host, created: p.created, leaving: p.leaving, Placement: next}); c.put(q) {
		return q
	}
	return p
}

// put decides for a placement, or says why it can't be.
func (c *change) put(p *placed) bool {
	if err := c.render(p); err != nil {
		c.reasons = append(c.reasons, fmt.Sprintf("%s on %s: %v", p.Instance, p.host, err))
		return false
	}
	p.json = marshalled(p.Placement)
	p.sum = sum(p.json)
	c.snapshot.put(p, c.now)
	return true
}

func (c *change) delete(p *placed) {
	c.remove(p.host, p.Tenant, p.Instance)
	delete(c.moves, p.host+"/"+p.Instance) // another of its name stays
	c.deletes = append(c.deletes, p)
	c.markWaiting()
}

// sleepOf keeps instances that are to be ready from going dormant.
func sleepOf(spec *cluster.Spec) cluster.Sleep {
	sleep := spec.Sleep
	if spec.Replicas.Min > 0 {
		sleep.Dormant = 0
	}
	return sleep
}
