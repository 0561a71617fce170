package scheduler

import "bulkhead/cluster"

// outdated says whether a placement's host runs new instances with another
// image by now. An image is never changed under an instance that serves.
func (c *change) outdated(p *placed) bool {
	h := c.hosts[p.host]
	return h.presence != nil && h.presence.Image != "" && p.Image != "" && p.Image != h.presence.Image
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

// renew is where one that runs another image than its host by now is replaced:
// on the host itself, where there is room for both.
func (c *change) renew(leave []*placed, spec *cluster.Spec) (*host, string) {
	for _, p := range leave {
		h := c.hosts[p.host]
		if c.outdated(p) && c.replacements(h, leave) && h.takes(spec) {
			return h, "it runs the image that " + h.name + " has now"
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
