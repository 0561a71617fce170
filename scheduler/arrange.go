package scheduler

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// arrange brings placements in line with the spec in force.
func (c *change) arrange() {
	c.settle()
	if c.force == nil {
		c.deliver()
		c.status(c.statusOf(cluster.PhaseInvalid))
		return
	}
	spec := &c.force.spec
	want := c.tenant.wanted(spec.Replicas)
	c.wanted = want
	stay, leave := c.sort(spec)
	stay, leave = c.keep(stay, leave, want, spec)
	missing := want - len(stay)
	for ; missing > 0 && c.place(spec, leave); missing-- {
	}
	for i, p := range leave {
		leave[i] = c.refresh(p, spec)
	}
	c.release(stay, leave, want)
	c.deliver()
	phase := cluster.PhasePlaced
	delete(c.waiting, c.tenant.name)
	if missing > 0 {
		c.waiting[c.tenant.name] = true
		if want-missing < least(spec.Replicas) {
			phase = cluster.PhaseWaiting
		}
	}
	c.status(c.statusOf(phase))
}

// keep brings the placements that may stay in line with the spec, one after
// the other, since each takes room from the next, and removes those beyond
// want.
func (c *change) keep(stay, leave []*placed, want int, spec *cluster.Spec) (kept, left []*placed) {
	var surplus []*placed
	for _, p := range stay {
		if len(kept) == want {
			surplus = append(surplus, p)
		} else if why := c.unfit(p, spec); why != "" {
			leave = append(leave, c.leaves(p, why))
		} else {
			p.leaving = time.Time{}
			kept = append(kept, c.update(p, spec))
		}
	}
	serving := c.serving(kept)
	for _, p := range surplus {
		switch {
		case serving >= want && c.unready(p) == 0 && !c.othersTake(p, kept, spec.Replicas.Concurrency):
			p.leaving = time.Time{}
			kept = append(kept, p) // the load is not as even as its average
			c.timed[c.tenant.name] = true
		case serving >= want:
			c.retire(p)
		case c.returning(kept) && c.unfit(p, spec) == "":
			// Whichever of a host that came back and a replacement elsewhere
			// serves first stays: nothing that is ready is thrown away.
			kept = append(kept, c.update(p, spec))
			c.timed[c.tenant.name] = true
		default:
			c.delete(p)
		}
	}
	return kept, leave
}

// serving counts the placements whose instances take requests.
func (c *change) serving(of []*placed) (n int) {
	for _, p := range of {
		n += 1 - c.unready(p)
	}
	return n
}

// returning says whether one that doesn't serve is on a host that came back
// less than the grace ago.
func (c *change) returning(of []*placed) bool {
	for _, p := range of {
		if h := c.hosts[p.host]; c.unready(p) == 1 && h.presence != nil && c.now.Sub(h.back) < c.grace {
			return true
		}
	}
	return false
}

// settle decides which spec is in force, and keeps it where it is found again
// when the next one is bad.
func (c *change) settle() {
	t := c.tenant
	if t.observed.err == nil {
		c.force, c.applied = t.observed, t.observed.revision
		if t.applied == nil || t.applied.raw != t.observed.raw {
			t.applied = t.observed // the brake counts it as before: it has a spec
			c.other = append(c.other, etcd.Put(cluster.AppliedKey(t.name), []byte(t.observed.raw)))
		}
		return
	}
	if t.status != nil {
		c.applied = t.status.Applied
	}
	// One that was applied under laxer rules, and can't be read any more, moves
	// nothing: what is placed stays as it is.
	if t.applied != nil && t.applied.err == nil {
		c.force = t.applied
	}
}

// sort tells the placements that may stay, best first, from those that must
// leave, and says why those must.
func (c *change) sort(spec *cluster.Spec) (stay, leave []*placed) {
	for _, p := range c.ordered() {
		if why := c.unfit(p, spec); why != "" {
			leave = append(leave, c.leaves(p, why))
		} else {
			stay = append(stay, p)
		}
	}
	// When there are too many, those not ready go first, of them those whose
	// host is away, then who is leaving already, has less to do or is newer.
	slices.SortStableFunc(stay, func(a, b *placed) int {
		return cmp.Or(
			cmp.Compare(c.unready(a), c.unready(b)), cmp.Compare(c.away(a), c.away(b)), cmp.Compare(c.going(a), c.going(b)),
			cmp.Compare(c.busy(b), c.busy(a)), cmp.Compare(a.created, b.created))
	})
	return stay, leave
}

// leaves notes why a placement must leave.
func (c *change) leaves(p *placed, why string) *placed {
	c.leaving = append(c.leaving, fmt.Sprintf("%s leaves %s: %s", p.Instance, p.host, why))
	return p
}

func (c *change) going(p *placed) int {
	if r := c.tenant.routes[p.host+"/"+p.Instance]; r != nil && r.Leaving { // an earlier leader may have said so
		return 1
	}
	return 0
}

func (c *change) away(p *placed) int {
	if c.hosts[p.host].presence == nil {
		return 1
	}
	return 0
}

func (c *change) unready(p *placed) int {
	if c.tenant.ready(p) {
		return 0
	}
	return 1
}

// ordered returns the tenant's placements by instance number, then host.
func (c *change) ordered() []*placed {
	return slices.SortedFunc(maps.Values(c.tenant.placed), func(a, b *placed) int {
		_, n, _ := cluster.ParseInstance(a.Instance)
		_, m, _ := cluster.ParseInstance(b.Instance)
		return cmp.Or(cmp.Compare(n, m), cmp.Compare(a.host, b.host))
	})
}

// unfit says why a placement can't stay where it is, or "". A host that is
// gone for less than the grace is waited for; neither a cordon nor distrust
// moves anybody.
func (c *change) unfit(p *placed, spec *cluster.Spec) string {
	h := c.hosts[p.host]
	switch {
	case h.drain != nil:
		return "the host is drained: " + *h.drain
	case h.off:
		return fmt.Sprintf("the host has been gone for more than %s", c.grace)
	case h.presence == nil:
		return ""
	}
	if why := c.moved(p, spec); why != "" {
		return why
	}
	if what := h.outdated(p); what != "" && !c.stuck(p, spec) {
		return "its " + what + " is not the host's any more"
	}
	if p.Runtime != spec.Runtime {
		return fmt.Sprintf("its runtime is to be %s", cmp.Or(spec.Runtime, "the engine's own"))
	}
	if !h.runs(spec.Runtime) {
		return "the host has no OCI runtime " + spec.Runtime + " any more"
	}
	if label, lacking := h.lacks(spec.Placement.Labels); lacking {
		return fmt.Sprintf("the host has no %s=%s", label, spec.Placement.Labels[label])
	}
	if !grows(spec.Resources, p.Resources) && !grows(wants(spec), p.reserved()) {
		return ""
	}
	return h.short(spec, p.reserved())
}

func grows(want, has cluster.Resources) bool {
	return want.Memory > has.Memory || want.CPU > has.CPU || want.Pids > has.Pids
}

// place puts one more instance on a host, or says why it can't.
func (c *change) place(spec *cluster.Spec, leave []*placed) bool {
	n := c.number()
	h, why := c.target(leave, spec)
	if h == nil {
		h, why = c.renew(leave, spec)
	}
	if h == nil {
		h, why = c.choose(c.tenant, n, spec)
	}
	if h == nil {
		if all := c.indexed().all; len(leave) > 0 && len(all) == 1 && all[0].name == leave[0].host && all[0].drain != nil {
			why = "there is nowhere to go, " + all[0].name + " is the only host present"
		}
		c.reasons = append(c.reasons, fmt.Sprintf("%s waits: %s", cluster.InstanceName(c.tenant.name, n), why))
		return false
	}
	if len(leave) > 0 {
		why += fmt.Sprintf("; it replaces %s on %s", leave[0].Instance, leave[0].host)
	}
	return c.put(&placed{host: h.name, created: unseen, Placement: c.content(h, n, spec, why)})
}

// release removes the placements that must leave, as far as those that serve
// without them are as many as wanted. Until then they go on.
func (c *change) release(stay, leave []*placed, want int) {
	slices.SortStableFunc(leave, func(a, b *placed) int { return cmp.Compare(c.unready(b), c.unready(a)) })
	serving := c.serving(stay) + c.serving(leave)
	held := false
	for _, p := range leave {
		without := serving - (1 - c.unready(p))
		if without < want {
			held, p.leaving = true, time.Time{}
			continue
		}
		serving = without
		c.retire(p)
	}
	if held {
		c.reasons = append(c.leaving, c.reasons...)
	}
}
