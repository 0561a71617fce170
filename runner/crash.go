package runner

import (
	"time"
)

// When a version's processes crash again and again, its requests are refused
// for a while instead of each costing another process.
const (
	crashCount   = 3 // deaths
	crashWithin  = 10 * time.Second
	crashMinWait = time.Second
	crashMaxWait = time.Minute
	crashHealthy = 30 * time.Second // a process that lives so long has not crashed in a loop
	maxCrashes   = 1024             // functions that are remembered
)

// crashes is what is known of a function whose processes have died.
type crashes struct {
	version string
	deaths  []time.Time   // the last few
	wait    time.Duration // 0: requests are let through
	until   time.Time     // then one is, to see
	probing time.Time     // when one was; zero: none is under way
	reason  string        // of the last death
}

// died notes a death of a process that began at since.
func (k *crashes) died(since, now time.Time, reason string) {
	if now.Sub(since) >= crashHealthy {
		*k = crashes{version: k.version}
	}
	k.probing, k.reason = time.Time{}, reason
	k.deaths = append(k.deaths, now)
	for len(k.deaths) > crashCount || now.Sub(k.deaths[0]) > crashWithin {
		k.deaths = k.deaths[1:]
	}
	switch {
	case k.wait > 0:
		k.wait = min(2*k.wait, crashMaxWait)
	case len(k.deaths) == crashCount:
		k.wait = crashMinWait
	default:
		return
	}
	k.until = now.Add(k.wait)
}

// closed reports whether requests are refused, and for how long. What is let
// through after a wait is a probe: until its answer begins, others are
// refused, but for the next probe, after as long a wait.
func (k *crashes) closed(now time.Time) (retry time.Duration, closed bool) {
	switch {
	case k.wait == 0 || k.until.IsZero():
		return 0, false
	case !k.probing.IsZero() && now.Before(k.probing.Add(k.wait)):
		return k.probing.Add(k.wait).Sub(now), true
	case now.Before(k.until):
		return k.until.Sub(now), true
	}
	return 0, false
}

// passed notes that a probe was answered: requests are let through again. The
// wait is remembered, and doubles with the next death.
func (k *crashes) passed() { k.probing, k.until = time.Time{}, time.Time{} }

// crashing refuses a request of a version that crashes again and again; r.mu is
// held.
func (r *Runner) crashing(c *call, version string) *Refusal {
	k := r.crashes[c.function]
	if k == nil || k.wait == 0 {
		return nil
	}
	now := time.Now()
	p := r.processes[c.function]
	if k.version != version || p != nil && !p.since.IsZero() && now.Sub(p.since) >= crashHealthy {
		delete(r.crashes, c.function)
		return nil
	}
	if retry, closed := k.closed(now); closed {
		refusal := refuse(503, "function_crashing", "the processes of function %q crash again and again, so it rests; one request is let through each %v to see whether it still does. The last: %s", c.function, k.wait, k.reason)
		refusal.RetryAfter = retry
		return refusal
	}
	if !k.until.IsZero() {
		k.probing, c.probe = now, true
	}
	return nil
}

// died notes the death of a process; r.mu is held.
func (r *Runner) died(p *process, reason string) {
	k := r.crashes[p.function]
	if k != nil && k.version != p.version && r.functions.current(r.config.Tenant, p.function, k.version) {
		return // of an old version: the new one is not to blame
	}
	if k == nil || k.version != p.version {
		if len(r.crashes) >= maxCrashes {
			r.forgetCrash()
		}
		k = &crashes{version: p.version}
		r.crashes[p.function] = k
	}
	k.died(p.since, time.Now(), clip(reason, maxReason))
}

// forgetCrash drops, of a few at random, what died longest ago.
func (r *Runner) forgetCrash() {
	oldest, looked := "", 0
	for name, k := range r.crashes {
		if oldest == "" || k.deaths[len(k.deaths)-1].Before(r.crashes[oldest].deaths[len(r.crashes[oldest].deaths)-1]) {
			oldest = name
		}
		if looked++; looked == 16 {
			break
		}
	}
	delete(r.crashes, oldest)
}

// probed notes how a probe has gone: its answer has begun, or it has ended
// without one; r.mu is held.
func (r *Runner) probed(c *call) {
	k := r.crashes[c.function]
	if !c.probe || k == nil || k.probing.IsZero() {
		return
	}
	if c.answered {
		k.passed()
		return
	}
	k.probing = time.Time{}
}
