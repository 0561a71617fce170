package cell

import (
	"cmp"
	"slices"
	"time"
)

// vitals is what a process says of itself when it is asked.
type vitals struct {
	p        *process
	answered bool
	inflight int
	idle     time.Duration
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
	c.dismiss(p, exitGrace)
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
// and have nothing in flight, the one idle longest. Nil: none.
func victim(all []vitals) *process {
	idle := slices.DeleteFunc(slices.Clone(all), func(v vitals) bool { return !v.answered || v.inflight > 0 })
	if len(idle) == 0 {
		return nil
	}
	return slices.MaxFunc(idle, func(a, b vitals) int { return cmp.Compare(a.idle, b.idle) }).p
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
			out[i].answered, out[i].inflight, out[i].idle = true, m.Inflight, m.Idle
		case <-p.gone:
		case <-deadline:
			return out[:i]
		}
	}
	return out
}
