package runner

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"time"

	"bulkhead/cluster"
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
	asked    bool             // a PING waits for its PONG
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
	p = &process{r: r, function: function, version: record.Version, calls: map[uint32]*call{}, waiting: map[*call][]byte{}}
	r.processes[function] = p
	r.live[p] = struct{}{}
	r.work.Go(func() { p.run(record) })
	return p
}

// retire lets a process go once its requests are answered.
func (r *Runner) retire(p *process) {
	p.forget()
	p.dismiss()
}

// dismiss asks the cell to let the process finish what it has, and go.
func (p *process) dismiss() {
	r := p.r
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
	p.link = &link{Conn: frames.NewConn(conn, "runner")}
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

func (p *process) connect(record *cluster.Function) (net.Conn, error) {
	ctx, cancel := context.WithTimeoutCause(p.r.ctx, serveTimeout, fmt.Errorf("the function did not come up in %v", serveTimeout))
	defer cancel()
	socket, err := p.r.cell.serve(ctx, p.function, record)
	if err != nil {
		return nil, err
	}
	p.socket = socket
	var d net.Dialer
	return d.DialContext(ctx, "unix", socket)
}

// Idle sends what the last frames led to.
func (p *process) Idle() {
	p.r.mu.Lock()
	p.r.flush()
	p.r.mu.Unlock()
}

// Frame takes a frame from the process, which tenants' code may have written.
func (p *process) Frame(f frames.Frame) error {
	r := p.r
	body := len(f.Payload)
	if f.Type == frames.TypeResponse {
		head, err := frames.ParseResponse(f.Payload)
		if err == nil && head.Status < 200 {
			err = fmt.Errorf("%w: status %d", frames.ErrProtocol, head.Status)
		}
		if err != nil {
			return err
		}
		body = len(head.Body)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch f.Type {
	case frames.TypeGoAway:
		p.forget()
		return nil
	case frames.TypePong:
		p.asked = false
		return nil
	case frames.TypeResponse, frames.TypeData, frames.TypeWindow, frames.TypeReset:
	default:
		return nil
	}
	c := p.calls[f.Stream]
	if c == nil {
		return nil
	}
	if wrong := c.wrong(f, body); wrong != "" {
		return fmt.Errorf("%w: %s", frames.ErrProtocol, wrong)
	}
	if f.End || f.Type == frames.TypeReset {
		delete(p.calls, f.Stream)
	}
	c.fromProcess(f)
	return nil
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
	case f.Type == frames.TypeData && !c.answered:
		return fmt.Sprintf("DATA before RESPONSE on stream %d", f.Stream)
	}
	return ""
}

// hangUp closes the connection; r.mu is held.
func (p *process) hangUp() {
	if p.link != nil {
		p.link.Close()
	}
}
