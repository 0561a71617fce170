package runner

import (
	"context"
	"net"
	"time"
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
	resting bool // it is about to sleep: not drained before the agent knows
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

// comeToRest runs on the timer's goroutine.
func (r *Runner) comeToRest() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rest.armed = false
	if r.ctx.Err() != nil || r.draining {
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

// sleepIfIdle is what the agent asks for when the host is short of memory.
func (r *Runner) sleepIfIdle() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.calls == 0 && r.config.Sleep.Dormant > 0 && !r.draining {
		r.beginSleep()
	}
}

// beginSleep gives the cell up; r.mu is held. The agent is told first: were it
// away, nobody could wake us.
func (r *Runner) beginSleep() {
	if r.rest.resting {
		return
	}
	r.rest.resting = true
	r.work.Go(func() {
		if _, err := r.cell.waker.connect(); err != nil {
			r.stayUp(err)
			return
		}
		r.mu.Lock()
		if r.calls > 0 || r.draining {
			r.rest.resting = false
			r.watchRest()
			r.mu.Unlock()
			return
		}
		// From here on, new connections wait for whoever comes after us.
		r.closeListeners()
		r.startDraining()
		r.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := r.cell.waker.sleep(ctx); err != nil {
			r.opts.Log.Warn("the agent does not take our cell back", "error", err)
		}
		r.mu.Lock()
		r.rest.resting = false
		r.closeDrained()
		r.mu.Unlock()
	})
}

func (r *Runner) stayUp(err error) {
	r.opts.Log.Warn("cannot sleep: nobody would wake us", "error", err)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rest.resting = false
	r.rest.since = time.Now().Add(restRetry - time.Duration(r.config.Sleep.Dormant))
	r.watchRest()
}

// listening notes a listener that Serve takes connections from; r.mu is held.
func (r *Runner) listening(ln net.Listener) { r.listeners = append(r.listeners, ln) }

func (r *Runner) closeListeners() {
	for _, ln := range r.listeners {
		ln.Close()
	}
	r.listeners = nil
}
