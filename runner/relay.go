package runner

import (
	"fmt"

	"bulkhead/internal/frames"
)

// fromProxy takes a frame of this call's stream.
func (c *call) fromProxy(f frames.Frame) {
	switch f.Type {
	case frames.TypeData, frames.TypeTrailers:
		c.bodyFromProxy(f)
	case frames.TypeWindow:
		c.credit += frames.ParseWindow(f.Payload)
		c.toProcess(f)
	case frames.TypeReset:
		code, reason := frames.ParseReset(f.Payload)
		c.abandon(code, reason)
	}
}

func (c *call) bodyFromProxy(f frames.Frame) {
	if c.whole {
		return
	}
	c.whole = f.End
	if f.Type == frames.TypeData && !c.upgraded {
		c.received += len(f.Payload)
		if refusal := c.tooLarge(int64(c.received)); refusal != nil {
			c.refuse(refusal)
			return
		}
	}
	if c.code != nil {
		if f.Type == frames.TypeTrailers {
			f.Payload = nil
		}
		c.collect(f.Payload, f.End)
		return
	}
	c.toProcess(f)
}

// toProcess passes a frame on, or keeps it until the process is there. What
// is kept is bounded by the stream's window.
func (c *call) toProcess(f frames.Frame) {
	if c.out == 0 {
		f.Stream = 0
		if c.hold(frames.HeaderSize + len(f.Payload)) {
			c.waiting = frames.Append(c.waiting, f)
		}
		return
	}
	f.Stream = c.out
	if err := c.r.queue(c.process.link, func(dst []byte) []byte { return frames.Append(dst, f) }); err != nil {
		c.refuse(stuck(c.function))
	}
}

func stuck(function string) *Refusal {
	return refuse(503, "function_stuck", "function %q does not read its requests: its event loop may be blocked", function)
}

// fromProcess passes a frame of the answer on.
func (c *call) fromProcess(f frames.Frame) {
	switch f.Type {
	case frames.TypeReset:
		c.resetByProcess(frames.ParseReset(f.Payload))
		return
	case frames.TypeResponse:
		c.begun(f)
	}
	f.Stream = c.id
	if c.r.queue(c.in.link, func(dst []byte) []byte { return frames.Append(dst, f) }) != nil {
		c.abandon(frames.CodeCancelled, "the proxy does not read")
		return
	}
	if f.End && !c.whole {
		c.r.queue(c.process.link, func(dst []byte) []byte { return frames.AppendReset(dst, c.out, frames.CodeNone, "") })
	}
	if f.End {
		delete(c.process.calls, c.out)
		c.finish()
	}
}

// begun notes that the answer begins: no other process can give one now.
func (c *call) begun(f frames.Frame) {
	c.answered = true
	c.r.probed(c)
	c.release()
	c.again = nil
	if head, err := frames.ParseResponse(f.Payload); err == nil && head.Status == 101 {
		c.upgraded = true
		if c.timer != nil {
			c.timer.Stop()
		}
	}
}

// resetByProcess ends a call that its process has given up.
func (c *call) resetByProcess(code frames.Code, reason string) {
	delete(c.process.calls, c.out)
	c.out, c.process = 0, nil
	reason = clip(reason, maxReason)
	if !c.answered && code != frames.CodeRefused {
		c.refuse(refuse(502, "function_reset", "function %q gave the request up: %s", c.function, reason))
		return
	}
	c.r.queue(c.in.link, func(dst []byte) []byte { return frames.AppendReset(dst, c.id, code, reason) })
	c.finish()
}

// wrong says what is wrong with a frame that may not come now, or brings more
// of the body than the proxy has asked for: the proxy must be able to trust
// the runner.
func (c *call) wrong(f frames.Frame, body int) string {
	switch f.Type {
	case frames.TypeResponse, frames.TypeData:
		c.credit -= body
	}
	switch {
	case c.credit < 0:
		return fmt.Sprintf("more than the window on stream %d", f.Stream)
	case f.Type == frames.TypeResponse && c.answered:
		return fmt.Sprintf("second RESPONSE on stream %d", f.Stream)
	case (f.Type == frames.TypeData || f.Type == frames.TypeTrailers) && !c.answered:
		return fmt.Sprintf("%v before RESPONSE on stream %d", f.Type, f.Stream)
	}
	return ""
}
