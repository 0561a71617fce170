package runner

import (
	"fmt"
	"strings"
	"time"

	"bulkhead/internal/cellctl"
	"bulkhead/internal/frames"
)

// told takes what the cell says unasked. A process that ends closes its
// connection, too, and what follows from that is bury's.
func (r *Runner) told(e cellctl.Event) {
	if e.Event == "log" {
		r.logged(e)
	}
	if e.Event != "verdict" || e.Verdict == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for p := range r.live {
		if p.named(e.Socket) {
			p.judged(e.Verdict)
		}
	}
	r.flush()
}

// named reports whether the process listens on a socket, by its file name.
func (p *process) named(socket string) bool {
	return socket != "" && (p.socket == socket || strings.HasSuffix(p.socket, "/"+socket))
}

// judged answers the request that the watchdog has stopped. The process gets
// no others from now on, and those that it has may finish: what was stopped may
// have been nobody's in flight, like a timer of a request that was answered
// long ago. Where the process has been ended, its burial tells them.
func (p *process) judged(v *cellctl.Verdict) {
	p.forget()
	if v.Kind == "idle" {
		p.left = true
		return
	}
	if c := p.accused(v.Request, v.Killed); c != nil {
		c.refuse(verdictRefusal(c.function, v))
	}
	if !v.Killed {
		time.AfterFunc(stranded, p.askStranded)
	}
}

// stranded is how long after a verdict the other requests of the process have
// to be answered by it. Most are, but when V8 ends a loop in a microtask it
// drops the microtasks behind it, and whoever waits for one of those waits for
// ever: nothing tells which they are.
const stranded = 2 * time.Second

// askStranded asks what has not been answered once more, of another process,
// where that is safe. It runs on a timer's goroutine.
func (p *process) askStranded() {
	r := p.r
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, c := range p.calls {
		if c.again == nil || c.answered || c.retried {
			continue
		}
		delete(p.calls, id)
		c.out, c.process = 0, nil
		r.queue(p.link, func(dst []byte) []byte {
			return frames.AppendReset(dst, id, frames.CodeCancelled, "another process is asked")
		})
		c.askAgain()
	}
	p.leaveIfDone()
	r.flush()
}

// accused returns the call that a request's id names, and without an id the
// only one in flight, when that one must be it. Nil: it can't be told.
func (p *process) accused(request string, lone bool) *call {
	var found *call
	for _, c := range p.calls {
		if request != "" && c.request != request || request == "" && !lone {
			continue
		}
		if found != nil {
			return nil
		}
		found = c
	}
	return found
}

// verdictRefusal is what the caller of a request hears that the watchdog has
// stopped.
func verdictRefusal(function string, v *cellctl.Verdict) *Refusal {
	ms := func(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
	limit, measured := ms(v.Limit), rounded(ms(v.Measured))
	r := &Refusal{Status: 508, Cause: "block_limit", Limit: "limits.block", Value: limit.String(), Measured: measured, Where: v.Where}
	var what string
	switch v.Kind {
	case "storm":
		r.Cause, r.Limit = "cpu_limit", "limits.cpu"
		what = fmt.Sprintf("used %s of CPU without finishing any request, over its CPU limit of %v (limits.cpu)", measured, limit)
	case "stall":
		what = fmt.Sprintf("blocked its event loop for %s without using the CPU, as a synchronous wait does; at most three times its block limit of %v (limits.block) are allowed", measured, limit)
	default:
		what = fmt.Sprintf("used %s of CPU in one turn of its event loop, over its block limit of %v (limits.block)", measured, limit)
	}
	at := ""
	if v.Where != "" {
		at = " at " + v.Where
	}
	if v.In != "" {
		at += " in " + v.In
	}
	r.Message = fmt.Sprintf("function %q was stopped%s: it %s", function, clip(at, maxReason), what)
	switch {
	case v.Native:
		r.Message += "; it was in a native call, which cannot be interrupted, so its process was ended"
	case v.Killed:
		r.Message += "; it could not be stopped otherwise, so its process was ended"
	}
	return r
}
