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
	refusal := refuse(503, "function_unavailable", "function %q cannot be started: %v", p.function, err)
	refusal.RetryAfter = time.Second
	if errors.As(err, &refused) {
		refusal = refusalOf(refused)
	}
	p.failed = refusal
	for c := range p.waiting {
		c.refuse(refusal)
	}
	p.waiting = nil
	kept := time.Duration(0)
	if refused != nil {
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
