package runner

import (
	"slices"
	"time"
)

// A request that comes when as many are in flight as may be waits in its
// tenant's line. Bursts are served in the order in which they came. A line that
// does not empty is overload: then those who came last are served first, and
// the others are told soon, so that those who are served have hardly waited.
// (In order, each would wait as long as the line is, and most of the work would
// be done for clients who have given up.)
const (
	mostInLine   = 1000                   // requests of a tenant; no more than may be in flight
	linePatience = 2 * time.Second        // how long each may wait
	lineStanding = 500 * time.Millisecond // what has not been empty for so long does not empty; each may wait so long then
)

// line are the requests that wait, the oldest first. It is pure: times are the
// caller's.
type line struct {
	waiting []*waiting
	since   time.Time // it was empty until then
}

// waiting is a request that could go to its function's process.
type waiting struct {
	call  *call
	start func()
	since time.Time
}

// add lets a request wait, unless there are most already.
func (l *line) add(w *waiting, most int) bool {
	if len(l.waiting) >= min(most, mostInLine) {
		return false
	}
	if len(l.waiting) == 0 {
		l.since = w.since
	}
	l.waiting = append(l.waiting, w)
	return true
}

// stands says that the line has not been empty for too long.
func (l *line) stands(now time.Time) bool {
	return len(l.waiting) > 0 && now.Sub(l.since) >= lineStanding
}

// patience is how long each may wait.
func (l *line) patience(now time.Time) time.Duration {
	if l.stands(now) {
		return lineStanding
	}
	return linePatience
}

// next takes out whose turn it is, of those that may go; nil: nobody's.
func (l *line) next(now time.Time, may func(*call) bool) *waiting {
	newest := l.stands(now)
	for i := range l.waiting {
		if newest {
			i = len(l.waiting) - 1 - i
		}
		if w := l.waiting[i]; may(w.call) {
			l.waiting = slices.Delete(l.waiting, i, i+1)
			return w
		}
	}
	return nil
}

// late takes out those that have waited too long.
func (l *line) late(now time.Time) (late []*waiting) {
	patience, n := l.patience(now), 0
	for n < len(l.waiting) && now.Sub(l.waiting[n].since) >= patience {
		n++
	}
	late = slices.Clone(l.waiting[:n])
	l.waiting = slices.Delete(l.waiting, 0, n)
	return late
}

// look is after what time somebody may have waited too long; false: nobody
// waits.
func (l *line) look(now time.Time) (time.Duration, bool) {
	if len(l.waiting) == 0 {
		return 0, false
	}
	stands := max(lineStanding-now.Sub(l.since), lineStanding-now.Sub(l.waiting[0].since))
	return max(min(stands, linePatience-now.Sub(l.waiting[0].since)), time.Millisecond), true
}

// drop takes a call out.
func (l *line) drop(c *call) {
	l.waiting = slices.DeleteFunc(l.waiting, func(w *waiting) bool { return w.call == c })
}

// turn starts a call when there is room for it, and else lets it wait. size is
// what is kept of it meanwhile, in bytes.
func (r *Runner) turn(c *call, size int, start func()) {
	full := c.full()
	if full == nil {
		c.run(start)
		return
	}
	if !c.hold(size) {
		return
	}
	if !r.line.add(&waiting{c, start, time.Now()}, full.concurrency) {
		c.refuse(full.refusal("as many wait"))
		return
	}
	c.queued = true
	if len(r.line.waiting) == 1 {
		r.watchLine()
	}
}

// run counts a call as in flight, and starts it.
func (c *call) run(start func()) {
	c.release()
	c.queued, c.running = false, true
	for _, b := range c.bounds {
		b.calls++
	}
	start()
}

// advance starts those for whom there is room now; r.mu is held.
func (r *Runner) advance() {
	for len(r.line.waiting) > 0 {
		w := r.line.next(time.Now(), func(c *call) bool { return c.full() == nil })
		if w == nil {
			return
		}
		w.call.run(w.start)
	}
}

// watchLine sees to it that nobody waits too long; r.mu is held.
func (r *Runner) watchLine() {
	in, any := r.line.look(time.Now())
	if !any {
		return
	}
	time.AfterFunc(in, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, w := range r.line.late(time.Now()) {
			w.call.queued = false
			if full := w.call.full(); full != nil {
				w.call.refuse(full.refusal("this one has waited for " + rounded(time.Since(w.since))))
			} else {
				w.call.run(w.start)
			}
		}
		r.flush()
		r.watchLine()
	})
}
