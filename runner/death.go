package runner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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

// suspect finds out whether the process still turns its event loop: a request
// of its has run out of time. One that does not answer is ended, or every
// request to come would wait for nothing, too.
func (p *process) suspect() {
	if p.asked || p.link == nil {
		return
	}
	p.asked = true
	r := p.r
	r.queue(p.link, func(dst []byte) []byte {
		return frames.Append(dst, frames.Frame{Type: frames.TypePing, Payload: make([]byte, 8)})
	})
	patience := cmp.Or(time.Duration(r.config.Limits.Block), time.Second)
	time.AfterFunc(patience, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if _, lives := r.live[p]; !lives || !p.asked || r.ctx.Err() != nil {
			return
		}
		p.forget()
		r.work.Go(func() { p.kill(patience) })
	})
}

func (p *process) kill(patience time.Duration) {
	ctx, cancel := context.WithTimeout(p.r.ctx, serveTimeout)
	defer cancel()
	reason := fmt.Sprintf("its event loop was blocked for more than %v after a request had run out of time", patience)
	if err := p.r.cell.kill(ctx, p.function, p.version, p.socket, reason); err != nil && p.r.ctx.Err() == nil {
		p.r.opts.Log.Warn("cannot end a blocked process", "function", p.function, "error", err)
	}
}

// bury answers the requests that the process leaves behind, with the reason.
func (p *process) bury(err error) {
	r := p.r
	r.mu.Lock()
	p.forget()
	left := len(p.calls)
	r.mu.Unlock()
	if left == 0 {
		return
	}
	refusal := refuse(503, "process_ended", "the process of function %q ended while the request was in flight: %s", p.function, p.cause(err))
	refusal.RetryAfter = time.Second
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, c := range p.calls {
		delete(p.calls, id)
		c.out = 0
		c.process = nil
		c.refuse(refusal)
	}
	r.flush()
}

// cause asks the cell how the process ended.
func (p *process) cause(err error) string {
	if errors.Is(err, frames.ErrProtocol) {
		return strings.TrimPrefix(err.Error(), "frames: ")
	}
	ctx, cancel := context.WithTimeout(p.r.ctx, time.Second)
	defer cancel()
	exit, asked := p.r.cell.inquest(ctx, p.socket)
	if asked != nil || exit == nil {
		return "it closed its connection"
	}
	return exit.Reason
}
