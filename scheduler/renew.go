package scheduler

import "bulkhead/cluster"

// outdated says what a placement's host runs new instances with by now, where
// this one has another: "image", "runner" or "". Neither is changed under an
// instance that serves: a runner that is restarted answers its last requests
// first, and all others wait for as long.
func (h *host) outdated(p *placed) string {
	switch now := h.presence; {
	case now == nil:
	case now.Image != "" && p.Image != "" && p.Image != now.Image:
		return "image"
	case now.Paths.Runner != "" && p.Runner != "" && p.Runner != now.Paths.Runner:
		return "runner"
	}
	return ""
}

// stuck says whether an outdated placement may be changed where it is: it does
// not serve, perhaps because its image is gone, and takes the room that its
// replacement would need.
func (c *change) stuck(p *placed, spec *cluster.Spec) bool {
	h := c.hosts[p.host]
	if c.unready(p) == 0 || h.takes(spec) {
		return false
	}
	c.timed[c.tenant.name] = true
	return c.now.Sub(h.back) >= c.grace // its agent has had time to say how it is
}

// renew is where one that is outdated is replaced: on the host itself, where
// there is room for both.
func (c *change) renew(leave []*placed, spec *cluster.Spec) (*host, string) {
	for _, p := range leave {
		h := c.hosts[p.host]
		if what := h.outdated(p); what != "" && c.replacements(h, leave) && h.takes(spec) {
			return h, "it has the " + what + " that " + h.name + " has now"
		}
	}
	return nil, ""
}

// replacements says whether a host has fewer of the tenant's instances than
// those that leave it and as many others.
func (c *change) replacements(h *host, leave []*placed) bool {
	all, old := 0, 0
	for _, p := range c.tenant.placed {
		if p.host == h.name {
			all++
		}
	}
	for _, p := range leave {
		if p.host == h.name {
			old++
		}
	}
	return all < 2*old
}
