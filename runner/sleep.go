package runner

import (
	"context"
	"net"
	"time"

	"bulkhead/internal/frames"
)

// sleepIfIdle is what the agent asks for when the host is short of memory.
func (r *Runner) sleepIfIdle() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.calls == 0 && r.config.Sleep.Dormant > 0 && !r.draining {
		r.beginSleep()
	}
}

// beginSleep gives the cell up; r.mu is held.
func (r *Runner) beginSleep() {
	if r.rest.resting {
		return
	}
	r.rest.resting = true
	r.work.Go(func() {
		// Were the agent away, nobody could wake us.
		if _, err := r.cell.waker.connect(); err != nil {
			r.stayUp(err)
			return
		}
		if !r.takeLeave() {
			return
		}
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

// takeLeave parts from the proxies: it takes no more connections, so that new
// ones wait at the socket, and says GOAWAY on those that there are, which the
// proxies then close. A request that was on its way is served as any other,
// and the instance stays up for it: that is false. After true nobody is
// connected, and nothing can come.
func (r *Runner) takeLeave() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.calls == 0 && !r.draining {
		parted := make(chan struct{})
		r.rest.paused, r.rest.parted = make(chan struct{}), parted
		r.setDeadline(time.Now())
		r.goAway()
		r.partedIf(len(r.inbounds) == 0)
		r.mu.Unlock()
		select {
		case <-parted:
		case <-time.After(leaveTime):
		case <-r.ctx.Done():
		}
		r.mu.Lock()
		defer r.resume()
	}
	r.rest.parted = nil
	if r.calls > 0 || r.draining || len(r.inbounds) > 0 {
		r.rest.resting = false
		r.rest.since = time.Now()
		r.watchRest()
		return false
	}
	for _, ln := range r.listeners {
		ln.Close()
	}
	r.startDraining()
	return true
}

// partedIf ends the wait for proxies to leave; r.mu is held.
func (r *Runner) partedIf(now bool) {
	if now && r.rest.parted != nil {
		close(r.rest.parted)
		r.rest.parted = nil
	}
}

// goAway tells every proxy that connects; r.mu is held.
func (r *Runner) goAway() {
	for in := range r.inbounds {
		in.goAway()
	}
	r.flush()
}

func (in *inbound) goAway() {
	in.r.queue(in.link, func(dst []byte) []byte {
		return frames.Append(dst, frames.Frame{Type: frames.TypeGoAway, Payload: []byte("draining")})
	})
}

// resume lets Serve go on, to take connections or to see that its listener is
// closed; r.mu is held.
func (r *Runner) resume() {
	r.setDeadline(time.Time{})
	close(r.rest.paused)
	r.rest.paused = nil
}

func (r *Runner) setDeadline(t time.Time) {
	for _, ln := range r.listeners {
		if d, ok := ln.(interface{ SetDeadline(time.Time) error }); ok {
			d.SetDeadline(t)
		}
	}
}

// awaitResume waits while no connections are taken.
func (r *Runner) awaitResume() {
	r.mu.Lock()
	paused := r.rest.paused
	r.mu.Unlock()
	if paused == nil {
		return
	}
	select {
	case <-paused:
	case <-r.ctx.Done():
	}
}

// listening notes a listener that Serve takes connections from; r.mu is held.
func (r *Runner) listening(ln net.Listener) { r.listeners = append(r.listeners, ln) }
