package cell

import (
	"fmt"
	"time"
)

// dismiss tells p to go, and kills it if it hasn't after grace. The lock is held.
func (c *Cell) dismiss(p *process, grace time.Duration) {
	c.leave(p)
	go func() {
		p.tell(map[string]string{"op": "stop"})
		c.expect(p, grace)
	}()
}

// expect waits for p's end. It brings it about after grace, or when p has shown
// for quietGrace no sign that it still has requests in flight: its word for
// them is all there is, and what it says may be the code's.
func (c *Cell) expect(p *process, grace time.Duration) {
	end, probe := time.NewTimer(grace), time.NewTicker(probePause)
	defer end.Stop()
	defer probe.Stop()
	for quiet := time.Now(); ; {
		select {
		case <-p.gone:
			return
		case <-end.C:
			c.kill(p, fmt.Sprintf("it did not go within %v of leaving service", grace))
			return
		case <-probe.C:
			if busy(ask([]*process{p})) {
				quiet = time.Now()
			} else if time.Since(quiet) >= quietGrace {
				c.kill(p, fmt.Sprintf("it did not go: nothing has been in flight for %v, or it does not answer", quietGrace))
				return
			}
		}
	}
}

// busy tells whether somebody answered that it has requests in flight.
func busy(all []vitals) bool {
	for _, v := range all {
		if v.answered && v.inflight > 0 {
			return true
		}
	}
	return false
}

// leave takes p out of service. The lock is held.
func (c *Cell) leave(p *process) {
	p.state, p.left = leaving, time.Now()
	k := key{p.function, p.version}
	if s := c.slots[k]; s != nil && s.proc == p {
		delete(c.slots, k)
	}
	c.notify()
}
