package runner

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"time"

	"bulkhead/cluster"
	"bulkhead/internal/cellctl"
	"bulkhead/internal/frames"
)

// serveTimeout is how long the cell may take to bring up a function; loading
// its code counts.
const serveTimeout = 15 * time.Second

// failureKept is how long a version whose code would not load is answered
// with that error before it is tried again.
const failureKept = 2 * time.Second

// process is one process of one function's version. Its fields are guarded by
// Runner.mu.
type process struct {
	r        *Runner
	function string
	version  string
	link     *link  // nil until connected
	socket   string // where it listens
	calls    map[uint32]*call
	next     uint32
	waiting  map[*call][]byte // requests that came before it was there
	failed   *Refusal         // its code could not be loaded
	gone     bool             // takes no new requests
	left     bool             // because it was to go: its end is no crash
	away     bool             // because it said that it goes
	asked    bool             // a PING waits for its PONG
	parting  *time.Timer      // it is asked whether it has read everything, before it is told to go
	stopped  bool             // it is told
	since    time.Time        // when it began to serve
	limits   *cellctl.Limits  // that the watchdog holds it to
}

// processFor returns the process that serves a record, and asks the cell for
// one when there is none. A process of an older version finishes what it has.
func (r *Runner) processFor(function string, record *cluster.Function) *process {
	p := r.processes[function]
	if p != nil && p.version == record.Version && !p.gone {
		return p
	}
	if p != nil && !p.gone {
		r.retire(p)
	}
	p = &process{r: r, function: function, version: record.Version, calls: map[uint32]*call{}, waiting: map[*call][]byte{}, limits: r.watched(record)}
	r.processes[function] = p
	r.live[p] = struct{}{}
	r.work.Go(func() { p.run(record) })
	return p
}

// watched is what the watchdog holds a function's process to.
func (r *Runner) watched(record *cluster.Function) *cellctl.Limits {
	l := r.config.Limits.Under(record.Limits)
	ms := func(d cluster.Duration) int64 { return time.Duration(d).Milliseconds() }
	return &cellctl.Limits{Block: ms(l.Block), CPU: ms(l.CPU), Background: ms(l.Background)}
}

// retire lets a process go once its requests are answered.
func (r *Runner) retire(p *process) {
	r.stir() // a frozen cell hears nothing
	p.forget()
	p.left = true
	p.dismiss()
}

// parting is what a PING carries before a process is told to go.
var parting = []byte("parting\x00")

// partingTime is how long it may take to answer that.
const partingTime = time.Second

// dismiss lets the process finish what it has, and go, once it has read what it
// was sent: it would refuse what it reads later. One that is still starting is
// dismissed when it has begun.
func (p *process) dismiss() {
	if p.link == nil {
		return
	}
	r := p.r
	r.queue(p.link, func(dst []byte) []byte {
		return frames.Append(dst, frames.Frame{Type: frames.TypePing, Payload: parting})
	})
	p.parting = time.AfterFunc(partingTime, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		p.stop()
	})
}

// stop tells the cell, once, that the process is to go.
func (p *process) stop() {
	r := p.r
	if p.stopped || r.ctx.Err() != nil {
		return
	}
	p.stopped = true
	p.parting.Stop()
	r.work.Go(func() {
		ctx, cancel := context.WithTimeout(r.ctx, serveTimeout)
		defer cancel()
		if err := r.cell.stop(ctx, p.function, p.version); err != nil && r.ctx.Err() == nil {
			r.opts.Log.Warn("cannot retire a process", "function", p.function, "version", p.version, "error", err)
		}
	})
}

// take gives the process a request: an encoded REQUEST frame on stream 0.
func (p *process) take(c *call, request []byte) {
	c.process = p
	switch {
	case p.failed != nil:
		c.refuse(p.failed)
	case p.link == nil:
		if c.hold(len(request)) {
			p.waiting[c] = request
		}
	default:
		p.open(c, request)
	}
}

// open sends a request, and what has come of its body since.
func (p *process) open(c *call, request []byte) {
	p.next++
	for p.next == 0 || p.calls[p.next] != nil {
		p.next++
	}
	setStream(request, p.next)
	for rest := c.waiting; len(rest) > 0; {
		_, n, _ := frames.Parse(withStream(rest, p.next))
		rest = rest[n:]
	}
	err := p.r.queue(p.link, func(dst []byte) []byte { return append(append(dst, request...), c.waiting...) })
	c.waiting = nil
	c.release()
	c.keep()
	if err != nil {
		c.process = nil
		c.refuse(stuck(c.function))
		return
	}
	c.out = p.next
	p.calls[c.out] = c
}

func setStream(frame []byte, id uint32) { binary.LittleEndian.PutUint32(frame[8:], id) }

func withStream(frame []byte, id uint32) []byte {
	setStream(frame, id)
	return frame
}

// run has the cell serve the function, connects, and passes frames until the
// process goes.
func (p *process) run(record *cluster.Function) {
	r := p.r
	defer func() {
		r.mu.Lock()
		delete(r.live, p)
		r.mu.Unlock()
	}()
	conn, err := p.connect(record)
	r.mu.Lock()
	if err != nil {
		p.fail(err)
		r.mu.Unlock()
		return
	}
	p.link, p.since = &link{Conn: frames.NewConn(conn, "runner")}, time.Now()
	if r.ctx.Err() != nil {
		p.link.Close()
	}
	waiting := p.waiting
	p.waiting = nil
	for c, request := range waiting {
		p.open(c, request)
	}
	if p.gone {
		p.dismiss() // what retired it may have come before there was anything to stop
	}
	r.flush()
	r.mu.Unlock()
	err = p.link.Serve(p)
	p.bury(err)
}

// connect has a process serve the function. The one that the cell names may
// have ended this moment, and the cell not know it yet: then it is asked again.
func (p *process) connect(record *cluster.Function) (net.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(p.r.ctx, serveTimeout, fmt.Errorf("the function did not come up in %v", serveTimeout))
	defer cancel()
	for tries := 3; ; tries-- {
		socket, err := p.serve(ctx, record)
		if err != nil {
			return nil, err
		}
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", socket)
		if err == nil || tries == 1 || ctx.Err() != nil {
			return conn, err
		}
		p.r.cell.inquest(ctx, socket) // waits for the end that is under way
	}
}

// serve returns the socket of a process that serves the function.
func (p *process) serve(ctx context.Context, record *cluster.Function) (string, error) {
	socket, err := p.r.cell.serve(ctx, p.function, record, p.limits)
	if err == nil && p.r.leaves(socket) {
		// We know that its process goes, and the cell does not yet.
		if err = p.r.cell.stop(ctx, p.function, p.version); err == nil {
			socket, err = p.r.cell.serve(ctx, p.function, record, p.limits)
		}
	}
	if err != nil {
		return "", err
	}
	p.r.mu.Lock()
	p.socket = socket
	p.r.mu.Unlock()
	return socket, nil
}

// leaves reports whether a socket is that of a process which takes no new
// requests; then the caller is to tell the cell.
func (r *Runner) leaves(socket string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p := range r.live {
		if p.gone && p.socket == socket {
			p.stopped = true
			return true
		}
	}
	return false
}

// Idle sends what the last frames led to.
func (p *process) Idle() {
	p.r.mu.Lock()
	p.r.flush()
	p.leaveIfDone()
	p.r.mu.Unlock()
}

// leaveIfDone closes the connection to a process that goes, once no request is
// open: the process waits for that.
func (p *process) leaveIfDone() {
	if p.away && len(p.calls) == 0 {
		p.link.Close()
	}
}

// Frame takes a frame from the process, which tenants' code may have written.
func (p *process) Frame(f frames.Frame) error {
	body, status, err := len(f.Payload), 0, error(nil)
	switch f.Type {
	case frames.TypeResponse:
		var head frames.Response
		head, err = frames.ParseResponse(f.Payload)
		body, status = len(head.Body), head.Status
	case frames.TypeTrailers:
		_, err = frames.ParseTrailers(f.Payload)
	}
	if err != nil {
		return err
	}
	r := p.r
	r.mu.Lock()
	defer r.mu.Unlock()
	switch f.Type {
	case frames.TypeGoAway:
		p.away = true
		p.forget()
		return nil
	case frames.TypePong:
		p.asked = false
		if bytes.Equal(f.Payload, parting) && p.parting != nil {
			p.stop()
		}
		return nil
	case frames.TypeResponse, frames.TypeData, frames.TypeTrailers, frames.TypeWindow, frames.TypeReset:
	default:
		return nil
	}
	c := p.calls[f.Stream]
	if status != 0 && status < 200 && (status != 101 || c == nil || !c.upgrades) {
		return fmt.Errorf("%w: status %d", frames.ErrProtocol, status)
	}
	if c == nil {
		return nil
	}
	if wrong := c.wrong(f, body); wrong != "" {
		return fmt.Errorf("%w: %s", frames.ErrProtocol, wrong)
	}
	c.fromProcess(f)
	return nil
}

// hangUp closes the connection; r.mu is held.
func (p *process) hangUp() {
	if p.link != nil {
		p.link.Close()
	}
}
