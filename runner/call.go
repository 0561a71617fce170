package runner

import (
	"strconv"
	"time"

	"bulkhead/internal/frames"
)

// call is one request: a stream from the proxy joined to a stream to a
// function's process. Its methods are called with r.mu held.
type call struct {
	r        *Runner
	in       *inbound
	id       uint32 // the stream on in
	request  string // request id
	function string
	grant    *Grant
	timer    *time.Timer
	started  time.Time

	process  *process // nil until one is chosen
	out      uint32   // the stream on process; 0 until it is open
	waiting  []byte   // frames for the process, with stream id 0, until then
	received int      // bytes of the request's body so far
	credit   int      // bytes of the answer's body that the proxy has asked for
	held     int      // bytes of it that are kept here
	code     *oneOff  // collects code that came with the request
	whole    bool     // all of the request's body has come
	answered bool     // the answer has begun
}

// begin takes a new request through the gate and the limits, and sends it on.
func (r *Runner) begin(in *inbound, f frames.Frame, req frames.Request) {
	c := &call{
		r: r, in: in, id: f.Stream, started: time.Now(),
		request:  string(req.Fields.Get(frames.FieldRequestID)),
		function: string(req.Fields.Get(frames.FieldFunction)),
		received: len(req.Body), whole: f.End, credit: frames.Window,
	}
	if r.draining {
		// Not a refusal: whoever asked may ask our successor.
		r.queue(in.link, func(dst []byte) []byte { return frames.AppendReset(dst, c.id, frames.CodeRefused, "draining") })
		return
	}
	refusal := c.admit(req)
	if refusal != nil {
		r.queue(in.link, func(dst []byte) []byte { return refusal.appendFrame(dst, c.id, c.request) })
		return
	}
	in.calls[c.id] = c
	r.calls++
	wall := time.Duration(r.config.Limits.Wall)
	if wall > 0 {
		c.timer = time.AfterFunc(wall, c.timeOut)
	}
	if c.function == "" {
		c.beginOneOff(req, f.End)
		return
	}
	record, refusal := r.functions.get(r.config.Tenant, c.function)
	if refusal != nil {
		c.refuse(refusal)
		return
	}
	request, refusal := c.encode(req, f.End)
	if refusal != nil {
		c.refuse(refusal)
		return
	}
	r.processFor(c.function, record).take(c, request)
}

// admit decides whether the request may go on: pure but for the limiter.
func (c *call) admit(req frames.Request) *Refusal {
	r := c.r
	token, _ := bearer(req)
	grant, refusal := r.gate.Check(token, c.started)
	if refusal == nil {
		refusal = grant.Allows(c.function)
	}
	if refusal == nil {
		c.grant = grant
		refusal = c.checkLength(req)
	}
	if refusal == nil {
		refusal = r.limitsAt(c.started)
	}
	return refusal
}

func (c *call) checkLength(req frames.Request) *Refusal {
	length, err := strconv.ParseInt(string(req.Headers.Get("content-length")), 10, 64)
	if err != nil {
		length = int64(c.received)
	}
	return c.tooLarge(length)
}

// tooLarge refuses a body of n bytes when that is over its limit.
func (c *call) tooLarge(n int64) *Refusal {
	limit, name, status := int64(c.r.config.Limits.Body), "body", 413
	if c.function == "" {
		limit, name, status = int64(c.r.config.Limits.Code), "code", 400
	}
	if limit <= 0 || n <= limit {
		return nil
	}
	return refuse(status, name+"_too_large", "the %s has more than %d bytes, the limit of tenant %q (limits.%s)", name, limit, c.r.config.Tenant, name)
}

// fromProxy takes a frame of this call's stream.
func (c *call) fromProxy(f frames.Frame) error {
	switch f.Type {
	case frames.TypeData:
		c.received += len(f.Payload)
		c.whole = f.End
		if refusal := c.tooLarge(int64(c.received)); refusal != nil {
			c.refuse(refusal)
			return nil
		}
		if c.code != nil {
			c.collect(f.Payload, f.End)
			return nil
		}
		c.toProcess(f)
	case frames.TypeWindow:
		c.credit += frames.ParseWindow(f.Payload)
		c.toProcess(f)
	case frames.TypeReset:
		code, reason := frames.ParseReset(f.Payload)
		c.abandon(code, reason)
	}
	return nil
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

// fromProcess passes a frame of the answer on. The process has forgotten the
// stream already when the frame ends it.
func (c *call) fromProcess(f frames.Frame) {
	switch f.Type {
	case frames.TypeReset:
		code, reason := frames.ParseReset(f.Payload)
		c.out, c.process = 0, nil
		reason = clip(reason, maxReason)
		if !c.answered && code != frames.CodeRefused {
			c.refuse(refuse(502, "function_reset", "function %q gave the request up: %s", c.function, reason))
			return
		}
		c.r.queue(c.in.link, func(dst []byte) []byte { return frames.AppendReset(dst, c.id, code, reason) })
		c.finish()
		return
	case frames.TypeResponse:
		c.answered = true
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
		c.finish()
	}
}

// refuse answers in place of the function, or breaks the answer off when it
// has begun.
func (c *call) refuse(refusal *Refusal) {
	c.r.queue(c.in.link, func(dst []byte) []byte {
		if c.answered {
			return frames.AppendReset(dst, c.id, frames.CodeInternal, clip(refusal.Message, maxReason))
		}
		return refusal.appendFrame(dst, c.id, c.request)
	})
	c.abandon(frames.CodeCancelled, refusal.Cause)
}

// abandon ends the call and tells the process, if it has it.
func (c *call) abandon(code frames.Code, reason string) {
	if c.out != 0 {
		delete(c.process.calls, c.out)
		c.r.queue(c.process.link, func(dst []byte) []byte { return frames.AppendReset(dst, c.out, code, reason) })
	} else if c.process != nil {
		delete(c.process.waiting, c)
	}
	c.finish()
}

// finish forgets the call; it does nothing the second time.
func (c *call) finish() {
	if c.in.calls[c.id] != c {
		return
	}
	delete(c.in.calls, c.id)
	if c.timer != nil {
		c.timer.Stop()
	}
	c.release()
	r := c.r
	if r.calls--; r.calls == 0 && r.draining {
		r.closeDrained()
	}
}

// timeOut runs on the timer's goroutine when the wall clock has run out.
func (c *call) timeOut() {
	r := c.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if c.in.calls[c.id] != c {
		return
	}
	p := c.process
	took := time.Since(c.started).Round(time.Millisecond)
	c.refuse(refuse(504, "wall_limit", "function %q took %v, over its wall limit of %v (limits.wall)", c.function, took, time.Duration(r.config.Limits.Wall)))
	if p != nil {
		p.suspect()
	}
	r.flush()
}

// maxHeld is how many bytes of requests a runner keeps for processes that are
// not there yet, and of code that is on its way: a quarter of its memory.
const maxHeld = 16 << 20

// hold counts bytes that are kept for the call; when there are too many it
// refuses the call and returns false.
func (c *call) hold(n int) bool {
	if c.r.held+n > maxHeld {
		refusal := refuse(503, "runner_full", "%d MiB of requests wait for functions that start; ask again", maxHeld>>20)
		refusal.RetryAfter = time.Second
		c.refuse(refusal)
		return false
	}
	c.held += n
	c.r.held += n
	return true
}

// release counts them out again.
func (c *call) release() {
	c.r.held -= c.held
	c.held = 0
}
