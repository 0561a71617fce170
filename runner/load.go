package runner

import (
	"math"
	"time"

	"bulkhead/internal/waking"
)

// loadEvery is how often the agent is told how many requests are in flight, as
// long as there are any.
const loadEvery = 2 * time.Second

// load measures how many requests are in flight on average. Its fields are
// guarded by Runner.mu.
type load struct {
	area  float64   // requests × seconds since it was told last
	since time.Time // when that was
	at    time.Time // area is as of then
	armed bool      // it will be told again
}

// metering notes that the number of calls is about to change; r.mu is held.
func (r *Runner) metering(now time.Time) {
	r.load.meter(r.calls, now)
	if r.load.armed || r.cell.waker.socket == "" {
		return
	}
	r.load = load{since: now, at: now, armed: true}
	time.AfterFunc(loadEvery, r.tellLoad)
}

func (l *load) meter(calls int, now time.Time) {
	l.area += float64(calls) * now.Sub(l.at).Seconds()
	l.at = now
}

// take returns the average since the last take, to two decimals, and begins
// anew.
func (l *load) take(calls int, now time.Time) float64 {
	l.meter(calls, now)
	average := l.area / max(now.Sub(l.since).Seconds(), 1e-3)
	l.area, l.since = 0, now
	return math.Round(average*100) / 100
}

// tellLoad runs on the timer's goroutine until it has told of no load at all.
func (r *Runner) tellLoad() {
	r.mu.Lock()
	average := r.load.take(r.calls, time.Now())
	r.load.armed = (average > 0 || r.calls > 0) && r.ctx.Err() == nil
	if r.load.armed {
		time.AfterFunc(loadEvery, r.tellLoad)
	}
	r.mu.Unlock()
	r.keepBook()
	r.cell.waker.tell(waking.Ask{Op: waking.Load, Load: average})
}
