package runner

import (
	"time"

	"bulkhead/cluster"
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
	limits   cluster.Limits // the tenant's, lowered by the function's and the token's
	bounds   []bound        // the tenant's, and those of its function and token
	queued   bool           // waits in line
	running  bool           // counts as in flight
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
	again    again    // to ask a second process, when that is safe
	retried  bool     // a second process has it
	probe    bool     // shows whether its function still crashes

	upgrades bool // asks for an upgrade
	upgraded bool // was answered 101: raw bytes both ways
}

// begin takes a new request through the gate and the limits, and sends it on.
func (r *Runner) begin(in *inbound, f frames.Frame, req frames.Request) {
	c := &call{
		r: r, in: in, id: f.Stream, started: time.Now(),
		request:  string(req.Fields.Get(frames.FieldRequestID)),
		function: string(req.Fields.Get(frames.FieldFunction)),
		received: len(req.Body), whole: f.End, credit: frames.Window,
		upgrades: !f.End && req.Headers.Get("upgrade") != nil,
	}
	if r.draining {
		// Not a refusal: whoever asked may ask our successor.
		r.queue(in.link, func(dst []byte) []byte { return frames.AppendReset(dst, c.id, frames.CodeRefused, "draining") })
		return
	}
	record, refusal := c.admit(req)
	if refusal != nil {
		r.queue(in.link, func(dst []byte) []byte { return refusal.appendFrame(dst, c.id, c.request) })
		return
	}
	in.calls[c.id] = c
	r.metering(c.started)
	r.calls++
	r.partedIf(true)
	r.stir()
	if wall := time.Duration(c.limits.Wall); wall > 0 {
		c.timer = time.AfterFunc(wall, c.timeOut)
	}
	if !f.End && req.Headers.Get("expect") != nil {
		// Whoever holds its body back until it is wanted hears that it is.
		r.queue(in.link, func(dst []byte) []byte { return frames.AppendWindow(dst, c.id, 0) })
	}
	if c.function == "" {
		c.beginOneOff(req, f.End)
		return
	}
	request, refusal := c.encode(req, f.End)
	if refusal != nil {
		c.refuse(refusal)
		return
	}
	c.again = againOf(req, request, f.End)
	r.send(c, record, request)
}

// send gives a request to the process of its function, unless that is known to
// crash.
func (r *Runner) send(c *call, record *cluster.Function, request []byte) {
	if refusal := r.crashing(c, record.Version); refusal != nil {
		c.refuse(refusal)
		return
	}
	if c.running { // for the second time
		r.processFor(c.function, record).take(c, request)
		return
	}
	r.turn(c, len(request), func() { r.processFor(c.function, record).take(c, request) })
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
		c.process.leaveIfDone()
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
	if c.queued {
		c.queued = false
		c.r.line.drop(c)
	}
	if c.running {
		c.running = false
		for _, b := range c.bounds {
			b.calls--
		}
	}
	c.release()
	c.again = nil
	r := c.r
	r.probed(c)
	now := time.Now()
	r.metering(now)
	r.calls--
	r.rest.since = now
	r.advance()
	if r.calls == 0 && r.draining {
		r.closeDrained()
	}
}

// wallGrace is how long after its deadline a request that has reached a process
// is given up here: the process answers first, and knows where it waited.
const wallGrace = 250 * time.Millisecond

// timeOut runs on the timer's goroutine when the wall clock has run out.
func (c *call) timeOut() {
	r := c.r
	r.mu.Lock()
	defer r.mu.Unlock()
	wall := time.Duration(c.limits.Wall)
	if c.in.calls[c.id] != c || c.upgraded {
		return
	}
	if late := time.Since(c.started) - wall; c.out != 0 && late < wallGrace {
		c.timer.Reset(wallGrace - late)
		return
	}
	if c.queued {
		c.refuse(c.bounds[0].late(wall))
		r.flush()
		return
	}
	p := c.process
	took := time.Since(c.started)
	c.refuse(&Refusal{
		Status: 504, Cause: "wall_limit", Limit: "limits.wall", Value: wall.String(), Measured: rounded(took),
		Message: "function " + quoted(c.function) + " took " + rounded(took) + ", over its wall limit of " + wall.String() + " (limits.wall)",
	})
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
