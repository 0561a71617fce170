package cell

// busy counts what the cell's processes have to do: requests in flight, and
// work that outlives its request by ctx.waitUntil. One that does not say is
// busy, too.
func (c *Cell) busy() int {
	c.mu.Lock()
	var asked []*process
	for p := range c.procs {
		if p.state == serving || p.state == leaving {
			asked = append(asked, p)
		}
	}
	c.mu.Unlock()
	if len(asked) == 0 {
		return 0
	}
	n := len(asked)
	for _, v := range ask(asked) {
		if v.answered {
			n += v.inflight - 1
		}
	}
	return n
}
