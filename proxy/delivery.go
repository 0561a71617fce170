package proxy

import (
	"context"
	"errors"
	"time"

	"bulkhead/internal/frames"
)

// delivery brings one request to an instance: what requests over HTTP/1.1 and
// HTTP/2 have in common.
type delivery struct {
	p      *Proxy
	rec    record
	target *target
	stream *frames.Stream

	req      frames.Request // kept until its answer begins: it may be offered again
	whole    bool           // all of its body is in req
	held     bool           // none of its body is taken before the runner has answered or let it in
	deadline time.Time      // until when it may wait for an instance
	last     error          // why the last try failed
}

// offer finds a target that takes the request. One that cannot be reached, or
// has refused it unseen, is passed over, and when there is no other the request
// waits: a host that starts and a runner that ends look like that. Their
// circuits bound how often they are asked.
func (d *delivery) offer(ctx context.Context) *refusal {
	if refusal := d.p.admit(&d.rec); refusal != nil {
		return refusal
	}
	if d.deadline.IsZero() {
		d.deadline = d.rec.start.Add(d.p.opts.Hold)
	}
	for {
		target, refusal := d.p.table.pick(ctx, d.rec.tenant, d.target, d.deadline)
		if refusal != nil {
			return d.insteadOf(refusal)
		}
		d.rec.tries++
		d.target, d.rec.instance, d.rec.host = target, target.instance, target.host()
		if d.stream, d.last = target.open(ctx, d.req, d.whole); d.last == nil {
			if d.taken(ctx) {
				return nil
			}
			continue
		}
		target.leave()
		switch {
		case errors.Is(d.last, frames.ErrProtocol):
			return tooBig
		case ctx.Err() != nil:
			return unreachable(d.rec.tenant, d.last)
		}
	}
}

// admitTime is how long a runner, or another host's proxy, may take to say that
// it takes a request. After that its body is sent in any case.
const admitTime = time.Second

// taken waits until another host takes a request whose body is still to come:
// once some of that has been sent it can go nowhere else. If the host refuses,
// the stream is ended.
func (d *delivery) taken(ctx context.Context) bool {
	if d.whole || d.held || d.target.peer == nil {
		return true
	}
	wait, cancel := context.WithTimeout(ctx, admitTime)
	defer cancel()
	if d.stream.Admitted(wait) {
		return true
	}
	_, err := d.stream.Response(ctx) // it is here
	if !errors.Is(err, frames.ErrRefused) {
		return true
	}
	d.target.failed(err, false)
	d.last = err
	d.part()
	return false
}

// insteadOf says what went wrong before there was no target left, if anything.
func (d *delivery) insteadOf(refusal *refusal) *refusal {
	if d.last != nil && refusal.status == 503 {
		return unreachable(d.rec.tenant, d.last)
	}
	return refusal
}

// begins waits for the answer's head.
func (d *delivery) begins(ctx context.Context) (frames.Response, error) {
	r, err := d.stream.Response(ctx)
	switch {
	case err == nil:
		d.target.succeeded()
	case errors.Is(err, frames.ErrRefused):
		d.target.failed(err, false)
	}
	return r, err
}

// again reports whether the request may be offered to another target after err,
// by nil: nobody has seen any of it.
func (d *delivery) again(err error) *refusal {
	if !errors.Is(err, frames.ErrRefused) {
		return refusalFor(err, false)
	}
	d.last = err
	if d.whole || d.held {
		return nil
	}
	return unreachable(d.rec.tenant, err) // some of its body is gone
}

// part ends the use of the stream.
func (d *delivery) part() {
	d.stream.Close()
	d.stream = nil
	d.target.leave()
}

func unreachable(tenant string, err error) *refusal {
	r := refuse(503, "instance_unreachable", "no instance of tenant %q takes requests: %v", tenant, err)
	r.retryAfter = time.Second
	return r
}
