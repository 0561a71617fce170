package proxy

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of a circuit's rest.
const (
	restMin   = 100 * time.Millisecond // after the failure that opens it
	restMax   = 10 * time.Second
	softLimit = 3           // refusals in a row that open it
	probeTime = time.Second // for one request to show how it is, before another may
)

// circuit tells from the outcome of requests whether to send more. It is open
// while it rests: nothing is sent. After that one request is let through to
// see, and the next only once that has succeeded or had its time. Each failure
// doubles the rest.
type circuit struct {
	troubled atomic.Bool // failures is not 0: all others pass without the lock

	mu       sync.Mutex
	failures int // in a row
	open     bool
	probing  bool      // one has been let through since it opened
	until    time.Time // when one may be let through
}

// wait is how long no request may be let through; 0: one may now.
func (c *circuit) wait(now func() time.Time) time.Duration {
	if !c.troubled.Load() {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.open {
		return 0
	}
	return max(0, c.until.Sub(now()))
}

// enter notes that a request is let through.
func (c *circuit) enter(now func() time.Time) {
	if !c.troubled.Load() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open {
		c.until, c.probing = now().Add(probeTime), true
	}
}

// succeeded closes the circuit. It reports whether it was open.
func (c *circuit) succeeded() (wasOpen bool) {
	if !c.troubled.Load() {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	wasOpen = c.open
	c.failures, c.open, c.probing = 0, false, false
	c.troubled.Store(false)
	return wasOpen
}

// failed notes a failure: a hard one, nothing having answered at all, opens the
// circuit at once, a refusal only with those before it. It returns how long the
// circuit rests now, 0 when it does as before, and whether it has just opened.
func (c *circuit) failed(now time.Time, hard bool) (rest time.Duration, opened bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open && !c.probing {
		return 0, false // of a request that was under way when it opened
	}
	c.failures++
	c.troubled.Store(true)
	if !hard && !c.open && c.failures < softLimit {
		return 0, false
	}
	opened = !c.open
	if opened {
		c.failures = 1
	}
	c.open, c.probing = true, false
	rest = min(restMin<<min(c.failures-1, 16), restMax)
	rest = rest/2 + rand.N(rest) // so that not all proxies ask at once
	c.until = now.Add(rest)
	return rest, opened
}
