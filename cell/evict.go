package cell

import "time"

// vitals is what a process says of itself when it is asked.
type vitals struct {
	p        *process
	answered bool
	inflight int
	idle     time.Duration
	upgraded int           // of those in flight, raw bytes since a 101
	still    time.Duration // nothing has moved in them
}

// evict lets the function that has been idle longest go, unless another has
// just begun to. False: none is idle, and none is on its way out.
func (c *Cell) evict() bool {
	c.mu.Lock()
	if c.leavesSoon(time.Now()) {
		c.mu.Unlock()
		return true
	}
	leavers := c.count(leaving)
	var asked []*process
	for p := range c.procs {
		if p.state == serving {
			asked = append(asked, p)
		}
	}
	c.mu.Unlock()
	v := ask(asked)
	c.mu.Lock()
	defer c.mu.Unlock()
	p := victim(v)
	if p == nil || p.state != serving || c.leavesSoon(time.Now()) {
		return p != nil || leavers > 0
	}
	c.log.log(entry{Function: p.function, Version: short(p.version), Level: "platform", Message: "the process was idle and goes: another function needs its room"})
	c.leave(p)
	go func() {
		p.tell(map[string]any{"op": "stop", "hangup": true})
		c.expect(p, exitGrace)
	}()
	return true
}

// leavesSoon tells whether room is to be expected within a moment: a process
// began to leave less than leaveTime ago. One that has taken longer is held by
// its requests. The lock is held.
func (c *Cell) leavesSoon(now time.Time) bool {
	for p := range c.procs {
		if p.state == leaving && now.Sub(p.left) < leaveTime {
			return true
		}
	}
	return false
}

// victim chooses among processes the one to let go: of those that answered
// and have nothing in flight, the one idle longest; else, of those that have
// nothing but upgraded streams, the one in which nothing has moved for longest.
// Nil: none.
func victim(all []vitals) *process {
	if p := longest(all, func(v vitals) (time.Duration, bool) { return v.idle, v.inflight == 0 }); p != nil {
		return p
	}
	return longest(all, func(v vitals) (time.Duration, bool) { return v.still, v.inflight == v.upgraded })
}

// longest is of those that answered and may go the one that has been so for the
// longest time.
func longest(all []vitals, may func(vitals) (time.Duration, bool)) *process {
	var found *process
	since := time.Duration(-1)
	for _, v := range all {
		if d, ok := may(v); ok && v.answered && d > since {
			found, since = v.p, d
		}
	}
	return found
}

// ask pings processes and gathers what they answer in time.
func ask(procs []*process) []vitals {
	for _, p := range procs {
		select {
		case <-p.pong: // one that came too late for whoever asked
		default:
		}
		p.tell(map[string]string{"op": "ping"})
	}
	deadline := time.After(pingTimeout)
	out := make([]vitals, len(procs))
	for i, p := range procs {
		out[i].p = p
		select {
		case m := <-p.pong:
			out[i] = vitals{p, true, m.Inflight, m.Idle, m.Upgraded, m.Still}
		case <-p.gone:
		case <-deadline:
			return out[:i]
		}
	}
	return out
}
