package proxy

import (
	"fmt"

	"bulkhead/internal/frames"
)

// smallAnswer is how many bytes of an answer may be on their way to another
// host when more waits to be sent there than may: functions that are faster
// than the network between two hosts lose their own answers, not others'.
const smallAnswer = frames.Window / 16

// relay is one request of another host's proxy, passed on to an instance here:
// frames go on as they come, both ways, and the windows are those of the two
// ends. Its fields are guarded by the connection's lock.
type relay struct {
	in      *inbound
	id      uint32 // of its stream on the other proxy's connection
	target  *target
	passage *frames.Passage

	whole    bool // the request is
	answered bool // the answer has begun
	upgraded bool
	over     bool
	dirty    bool // has queued frames that are not sent; the connection's reader's own
	credit   int  // bytes of the answer's body that the other proxy has room for
	room     int  // bytes of the request's body that the instance has
}

// begin passes a request on to an instance on this host. It goes to no third
// host: two proxies whose tables differ could send it to and fro for ever. So
// if there is no instance here it is refused, and whoever sent it tries on.
// in.mu is held.
func (in *inbound) begin(f frames.Frame, req frames.Request) {
	if in.away {
		in.reset(f.Stream, frames.CodeRefused, "the proxy is leaving")
		return
	}
	tenant := req.Fields.Get(frames.FieldTenant)
	var err error = fmt.Errorf("no instance of the tenant is on host %s", in.p.opts.Host)
	var last *target
	for range softLimit {
		target := in.p.table.pickHere(tenant, last)
		if target == nil {
			break
		}
		r := &relay{in: in, id: f.Stream, target: target, whole: f.End, credit: frames.Window, room: frames.Window - len(req.Body)}
		if err = r.pass(f); err == nil {
			in.relays[r.id] = r
			in.touch(r)
			if !f.End && req.Headers.Get("expect") == nil { // else the runner says so
				in.conn.Queue(func(dst []byte) []byte { return frames.AppendWindow(dst, f.Stream, 0) })
			}
			return
		}
		target.leave()
		last = target
	}
	in.reset(f.Stream, frames.CodeRefused, err.Error())
}

func (in *inbound) reset(stream uint32, code frames.Code, reason string) {
	in.conn.QueueReset(stream, code, reason)
}

// touch has what a relay has queued sent once no more frames are there.
func (in *inbound) touch(r *relay) {
	if !r.dirty {
		r.dirty = true
		in.dirty = append(in.dirty, r)
	}
}

func (r *relay) pass(f frames.Frame) error {
	client, err := r.target.connect(r.in.p.ctx)
	if err == nil {
		r.passage, err = client.Pass(f, r.in.conn, r.fromInstance)
	}
	return err
}

func (r *relay) flush() {
	r.dirty = false
	r.passage.Flush()
}

// fromPeer takes a frame of the request. in.mu is held.
func (r *relay) fromPeer(f frames.Frame) {
	switch f.Type {
	case frames.TypeReset:
		code, reason := frames.ParseReset(f.Payload)
		r.drop(code, reason)
		return
	case frames.TypeWindow:
		r.credit += frames.ParseWindow(f.Payload)
	default:
		if f.Type == frames.TypeData {
			r.room -= len(f.Payload)
		}
		if r.whole || r.room < 0 {
			r.end(frames.CodeProtocol, "more of the request than may be sent")
			return
		}
		r.whole = f.End
	}
	if err := r.passage.Queue(f); err != nil {
		r.end(frames.CodeGone, err.Error())
		return
	}
	r.in.touch(r)
}

// fromInstance takes a frame of the answer.
func (r *relay) fromInstance(f frames.Frame) {
	r.in.mu.Lock()
	defer r.in.mu.Unlock()
	if r.over {
		return
	}
	switch f.Type {
	case frames.TypeReset:
		code, reason := frames.ParseReset(f.Payload)
		r.in.reset(r.id, code, reason)
		if code == frames.CodeRefused {
			r.target.failed(fmt.Errorf("%w: %s", frames.ErrRefused, reason), false)
		}
		r.forget()
		return
	case frames.TypeWindow:
		r.room += frames.ParseWindow(f.Payload)
	case frames.TypeResponse, frames.TypeData, frames.TypeTrailers:
		if wrong := r.wrong(f); wrong != "" {
			r.end(frames.CodeProtocol, wrong)
			return
		}
	default:
		return
	}
	end := f.End
	f.Stream = r.id
	queue := r.in.conn.QueueFrame
	if frames.Window-r.credit <= smallAnswer {
		queue = r.in.conn.QueueSmall
	}
	if err := queue(f); err != nil {
		r.end(frames.CodeGone, "the other host does not take the answer: "+err.Error())
		return
	}
	if end {
		if !r.whole {
			r.passage.Queue(frames.Frame{Type: frames.TypeReset, Payload: []byte{byte(frames.CodeNone)}})
			r.passage.Flush()
		}
		r.forget()
	}
}

// wrong notes a frame of the answer and says what is wrong with it, as far as
// other requests on the connection would suffer: the rest is for the other
// proxy to see.
func (r *relay) wrong(f frames.Frame) string {
	body := 0
	switch f.Type {
	case frames.TypeResponse:
		head, err := frames.ParseResponse(f.Payload)
		if err != nil {
			return err.Error()
		}
		body, r.answered, r.upgraded = len(head.Body), true, head.Status == 101
		r.target.succeeded()
	case frames.TypeData:
		body = len(f.Payload)
	}
	if r.credit -= body; r.credit < 0 {
		return "more of the answer than may be sent"
	}
	return ""
}

// end gives the request up, towards both sides. in.mu is held.
func (r *relay) end(code frames.Code, reason string) {
	r.in.reset(r.id, code, reason)
	r.in.conn.Flush()
	r.drop(code, reason)
}

// drop gives the request up, towards the instance. in.mu is held.
func (r *relay) drop(code frames.Code, reason string) {
	if !r.over {
		r.passage.Reset(code, reason)
		r.forget()
	}
}

func (r *relay) forget() {
	r.over = true
	delete(r.in.relays, r.id)
	r.target.leave()
}
