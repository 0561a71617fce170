package runner

import (
	"context"
	"fmt"
	"time"

	"bulkhead/internal/frames"
)

// suspect finds out whether the process still turns its event loop: a request
// of its has run out of time. The cell's watchdog has had its own chance by
// then; this is for one that fails. A process that does not answer is ended, or
// every request to come would wait for nothing, too.
func (p *process) suspect() {
	if p.asked || p.link == nil {
		return
	}
	p.asked = true
	r := p.r
	r.queue(p.link, func(dst []byte) []byte {
		return frames.Append(dst, frames.Frame{Type: frames.TypePing, Payload: make([]byte, 8)})
	})
	// The watchdog takes three times the limit, and a moment to break in.
	patience := 3*time.Duration(p.limits.Block)*time.Millisecond + 2*time.Second
	time.AfterFunc(patience, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if _, lives := r.live[p]; !lives || !p.asked || r.ctx.Err() != nil {
			return
		}
		p.forget()
		r.work.Go(func() {
			p.kill(fmt.Sprintf("its event loop was blocked for more than %v after a request had run out of time", patience))
		})
	})
}

// kill has the cell end the process; the reason is what its inquest says.
func (p *process) kill(reason string) {
	ctx, cancel := context.WithTimeout(p.r.ctx, serveTimeout)
	defer cancel()
	if err := p.r.cell.kill(ctx, p.function, p.version, p.socket, reason); err != nil && p.r.ctx.Err() == nil {
		p.r.opts.Log.Warn("cannot end a process", "function", p.function, "reason", reason, "error", err)
	}
}
