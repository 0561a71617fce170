package cell

import (
	"errors"
	"fmt"

	"bulkhead/cell/watch"
)

// enforce stops what has passed a limit: it finds out whose it is, tells the
// runner, ends the code's turn and, where that does not help, the process. Of
// a process that was interfered with nobody knows what state it is in, so it
// serves no longer: it finishes what it has and goes. Turn is whose synchronous
// turn it was when the limit was passed, empty: nobody's.
func (c *Cell) enforce(p *process, b watch.Breach, turn string) {
	v := Verdict{Kind: b.Kind, Limit: b.Limit.Milliseconds(), Measured: b.Measured.Milliseconds()}
	if b.Kind == watch.Idle {
		c.pronounce(p, v)
		if !c.retire(p) { // it was told to go, and goes on
			c.kill(p, explain(v))
		}
		return
	}
	told, err := c.breakIn(p, &v, patience(b))
	if errors.Is(err, errInnocent) {
		p.escapes.n = 0
		return
	}
	if err != nil && !told && b.Kind != watch.Storm && p.spokeWithin(answerTime) {
		err = errBack
	}
	if errors.Is(err, errBack) {
		if !p.escapes.again(b, turn, p.burned(), p.done.Load()) {
			return
		}
		v.Request = turn
	}
	if err != nil {
		v.Killed, v.Native = true, errors.Is(err, errNative)
		if v.Request == "" && !errors.Is(err, errBack) {
			v.Request = p.mark.read()
		}
		if told {
			c.sentence(p, v)
		} else {
			c.pronounce(p, v)
		}
		c.kill(p, explain(v))
		return
	}
	c.retire(p)
}

// retire lets a tainted process finish what it has. False: it was told before.
func (c *Cell) retire(p *process) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.retired {
		return false
	}
	p.retired = true
	if p.state == leaving {
		go func() {
			p.tell(map[string]string{"op": "stop"})
			c.expect(p, stopGrace)
		}()
	}
	return true
}

// sentence keeps a verdict for the inquest.
func (c *Cell) sentence(p *process, v Verdict) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p.verdict = &v
}

// pronounce keeps a verdict and tells everyone. The process is out of service:
// the version's next request gets another.
func (c *Cell) pronounce(p *process, v Verdict) {
	c.sentence(p, v)
	c.log.log(entry{Function: p.function, Version: short(p.version), Request: v.Request, Level: "platform", Message: explain(v)})
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.state == serving {
		c.leave(p)
	}
	c.broadcast(Event{Event: "verdict", Function: p.function, Version: p.version, Socket: p.socket, Verdict: &v})
}

// explain says what happened in a sentence for the tenant.
func explain(v Verdict) string {
	what := map[string]string{
		watch.Block: "its code did not return to the event loop and used %d ms of CPU, over the limit of %d ms",
		watch.Stall: "its code blocked the event loop for %d ms without working, over three times the limit of %d ms",
		watch.Storm: "its code used %d ms of CPU without finishing a request, over the limit of %d ms",
		watch.Idle:  "its code used %d ms of CPU with no request in flight, over the limit of %d ms",
	}[v.Kind]
	s := fmt.Sprintf(what, v.Measured, v.Limit)
	if v.Where != "" {
		s += ", at " + v.Where
	}
	switch {
	case v.Native:
		s += "; it was in a native call, which cannot be interrupted, so its process was killed"
	case v.Killed:
		s += "; it could not be stopped otherwise, so its process was killed"
	}
	return s
}
