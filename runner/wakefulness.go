package runner

import (
	"context"
	"time"

	"bulkhead/internal/cellctl"
)

// rest is how an instance comes to rest: idle for limits of the tenant's
// (sleep.freeze, sleep.dormant) its cell is frozen, and later the runner gives
// it up and ends. Its fields are guarded by Runner.mu.
type rest struct {
	freezer *freezer  // of the cell; nil: it can't be frozen
	frozen  bool      //
	since   time.Time // when there was last anything to do
	timer   *time.Timer
	armed   bool
	paused  chan struct{} // not nil: no connections are taken until it is closed
	parted  chan struct{} // not nil: to be closed when the last proxy has gone, or a request has come
	resting bool          // it is about to sleep: not drained before the agent knows
}

// restRetry is how long to wait before an agent that is away is told again
// that an instance sleeps.
const restRetry = 10 * time.Second

// stir says that the cell is about to be needed; r.mu is held. Writing to the
// freezer takes microseconds: the kernel thaws behind it.
func (r *Runner) stir() {
	r.rest.since = time.Now()
	if r.rest.frozen {
		if err := r.rest.freezer.set(false); err != nil {
			r.opts.Log.Error("cannot thaw the container", "error", err)
		}
		r.rest.frozen = false
	}
	r.watchRest()
}

// bed takes the freezer of the cell that the agent has given us.
func (r *Runner) bed(f *freezer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rest.freezer != nil {
		r.rest.freezer.file.Close()
	}
	r.rest.freezer = f
	if err := f.set(false); err != nil { // it may have been frozen by the runner before us
		r.opts.Log.Error("cannot thaw the container", "error", err)
	}
	r.rest.frozen = false
	r.rest.since = time.Now()
	r.restAnew()
}

// watchRest sees to it that idleness will be noticed; r.mu is held.
func (r *Runner) watchRest() {
	if r.rest.armed || r.ctx.Err() != nil {
		return
	}
	if next := r.nextRest(time.Now()); next > 0 {
		r.rest.armed = true
		r.rest.timer = time.AfterFunc(next, r.comeToRest)
	}
}

// restAnew counts with other limits from now on; r.mu is held.
func (r *Runner) restAnew() {
	if r.rest.armed && r.rest.timer.Stop() {
		r.rest.armed = false
	}
	r.watchRest()
}

// nextRest is in how long idleness would lead to something; 0: to nothing.
func (r *Runner) nextRest(now time.Time) time.Duration {
	sleep := r.config.Sleep
	idle := now.Sub(r.rest.since)
	next := time.Duration(0)
	if freeze := time.Duration(sleep.Freeze); freeze > 0 && r.rest.freezer != nil && !r.rest.frozen {
		next = max(freeze-idle, time.Millisecond)
	}
	if dormant := time.Duration(sleep.Dormant); dormant > 0 && r.cell.waker.socket != "" && (next == 0 || dormant-idle < next) {
		next = max(dormant-idle, time.Millisecond)
	}
	return next
}

// backgroundLook is how soon to look again whether an instance's background
// work is done.
const backgroundLook = time.Second

// comeToRest runs on the timer's goroutine.
func (r *Runner) comeToRest() {
	busy := r.background()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rest.armed = false
	if r.ctx.Err() != nil || r.draining || r.rest.resting {
		return
	}
	if busy {
		r.rest.armed = true
		r.rest.timer = time.AfterFunc(backgroundLook, r.comeToRest)
		return
	}
	now := time.Now()
	if r.calls > 0 {
		r.rest.since = now
	}
	idle, sleep := now.Sub(r.rest.since), r.config.Sleep
	switch freeze, dormant := time.Duration(sleep.Freeze), time.Duration(sleep.Dormant); {
	case dormant > 0 && idle >= dormant && r.cell.waker.socket != "":
		r.beginSleep()
		return
	case freeze > 0 && idle >= freeze && r.rest.freezer != nil && !r.rest.frozen:
		if err := r.rest.freezer.set(true); err != nil {
			r.opts.Log.Warn("cannot freeze the container", "error", err)
		} else {
			r.rest.frozen = true
		}
	}
	r.watchRest()
}

// background says whether the cell's processes have work that ctx.waitUntil
// holds on to. Their own limit (limits.background) ends that.
func (r *Runner) background() bool {
	r.mu.Lock()
	asleep := r.rest.frozen || r.calls > 0
	r.mu.Unlock()
	if asleep {
		return false
	}
	ctx, cancel := context.WithTimeout(r.ctx, time.Second)
	defer cancel()
	a, err := r.cell.ask(ctx, cellctl.Request{Op: "status"})
	return err == nil && a.Busy > 0
}
