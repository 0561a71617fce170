package runner

import (
	"context"
	"errors"
	"strings"
	"time"

	"bulkhead/internal/cellctl"
	"bulkhead/internal/frames"
)

// fail answers everyone who waited. Code that can't be loaded stays failed for
// a while; anything else is tried again with the next request.
func (p *process) fail(err error) {
	var refused *cellctl.Error
	refusal := refuse(503, "function_unavailable", "function %q cannot be started now: its container does not answer", p.function)
	if errors.As(err, &refused) {
		refusal = refusalOf(refused)
	} else if p.r.ctx.Err() == nil {
		p.r.opts.Log.Warn("cannot start a function", "function", p.function, "error", err)
	}
	if refusal.Status >= 500 {
		refusal.RetryAfter = time.Second
	}
	p.failed = refusal
	for c := range p.waiting {
		c.refuse(refusal)
	}
	p.waiting = nil
	kept := time.Duration(0)
	if refusal.Status < 500 {
		kept = failureKept
	}
	time.AfterFunc(kept, func() {
		p.r.mu.Lock()
		defer p.r.mu.Unlock()
		p.forget()
	})
	if kept == 0 {
		p.forget()
	}
	p.r.flush()
}

func (p *process) forget() {
	p.gone = true
	if p.r.processes[p.function] == p {
		delete(p.r.processes, p.function)
	}
}

// bury answers the requests that the process leaves behind: the one that ended
// it hears so, the others are asked again where that is safe.
func (p *process) bury(err error) {
	r := p.r
	r.mu.Lock()
	p.forget()
	p.stopped = true
	quiet := len(p.calls) == 0 && p.left
	r.mu.Unlock()
	if quiet {
		return
	}
	exit := p.inquest()
	if errors.Is(err, frames.ErrProtocol) {
		p.kill(strings.TrimPrefix(err.Error(), "frames: "))
		exit = &cellctl.Exit{Code: 1, Reason: "it broke the rules of its connection: " + strings.TrimPrefix(err.Error(), frames.ErrProtocol.Error()+": ")}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	reason := "it closed its connection"
	if exit != nil {
		reason = exit.Reason
	}
	if crashed(exit, p.left, len(p.calls) > 0) && r.ctx.Err() == nil {
		r.died(p, reason)
	}
	if c := p.guilty(exit); c != nil {
		delete(p.calls, c.out)
		c.out, c.process = 0, nil
		c.refuse(exitRefusal(c.function, exit))
	}
	p.disperse(reason)
	r.flush()
}

// guilty returns the call that ended the process, nil when it can't be told.
func (p *process) guilty(exit *cellctl.Exit) *call {
	if exit == nil {
		return nil
	}
	named := exit.Request
	if v := exit.Verdict; v != nil && v.Request != "" {
		named = v.Request
	}
	return p.accused(named, ownFault(exit) && !p.left && !p.away)
}

// ownFault reports whether a process ended through what it did itself, as far
// as its exit tells: one that is told to go, or is killed, did not.
func ownFault(exit *cellctl.Exit) bool {
	switch {
	case exit.Verdict != nil:
		return exit.Verdict.Kind != "idle"
	case exit.Request != "":
		return true
	case exit.OOM:
		return exit.Signal != "SIGKILL" // by the kernel, who picks one of the container
	case exit.Signal != "":
		return exit.Signal != "SIGKILL" && exit.Signal != "SIGTERM"
	}
	return exit.Code != 0
}

// crashed reports whether an exit counts as a crash of the function: not one
// that was meant, nor the end of a process that the watchdog had let finish.
func crashed(exit *cellctl.Exit, left, busy bool) bool {
	switch {
	case exit == nil:
		return false
	case exit.Verdict != nil:
		return exit.Verdict.Killed
	case left && !busy:
		return false
	}
	return ownFault(exit) || exit.Signal != ""
}

// disperse takes all calls off a process that has ended: whichever may is asked
// again, once, of another process, and the others are told.
func (p *process) disperse(reason string) {
	for id, c := range p.calls {
		delete(p.calls, id)
		c.out, c.process = 0, nil
		if c.again != nil && !c.answered && !c.retried {
			c.askAgain()
			continue
		}
		c.refuse(endedRefusal(c, reason))
	}
}

// endedRefusal is what the innocent hear.
func endedRefusal(c *call, reason string) *Refusal {
	r := refuse(503, "process_ended", "the process of function %q ended while this and perhaps other requests were in flight: %s; it may have begun this one", c.function, reason)
	if c.retried {
		r = refuse(503, "process_ended", "two processes of function %q ended while this request was in flight; the second: %s", c.function, reason)
	}
	r.RetryAfter = time.Second
	return r
}

// exitRefusal is what the request hears that ended its process.
func exitRefusal(function string, exit *cellctl.Exit) *Refusal {
	if exit.Verdict != nil {
		return verdictRefusal(function, exit.Verdict)
	}
	cause := "process_exit"
	switch {
	case exit.OOM:
		cause = "out_of_memory"
	case exit.Signal != "":
		cause = "process_crashed"
	}
	at := ""
	if exit.Where != "" {
		at = " at " + clip(exit.Where, maxReason)
	}
	r := refuse(500, cause, "this request ended the process of function %q%s: %s", function, at, exit.Reason)
	r.Where = exit.Where
	return r
}

// inquest asks the cell how the process ended; nil: it can't say.
func (p *process) inquest() *cellctl.Exit {
	ctx, cancel := context.WithTimeout(p.r.ctx, time.Second)
	defer cancel()
	exit, err := p.r.cell.inquest(ctx, p.socket)
	if err != nil {
		return nil
	}
	return exit
}
