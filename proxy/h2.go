package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/rs/xid"

	"bulkhead/internal/frames"
)

// Limits of a connection over HTTP/2, beside those of every client.
const (
	h2Streams      = 250       // requests at once
	h2StreamWindow = 256 << 10 // bytes of a request's body before some are passed on
	h2ConnWindow   = 1 << 20   // likewise, of all requests on the connection
)

// newH2 is the server for HTTP/2. It parses and multiplexes; requests go the
// same way as those over HTTP/1.1.
func (p *Proxy) newH2() *http.Server {
	return &http.Server{
		Handler:           http.HandlerFunc(p.handleH2),
		ReadHeaderTimeout: headerTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          log.New(h2Log{p}, "", 0),
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          h2Streams,
			MaxReceiveBufferPerStream:     h2StreamWindow,
			MaxReceiveBufferPerConnection: h2ConnWindow,
			SendPingTimeout:               idleTime / 2,
			WriteByteTimeout:              writeStall,
		},
	}
}

// h2Log passes on what the server reports, which names no request.
type h2Log struct{ p *Proxy }

// Write takes one line.
func (l h2Log) Write(line []byte) (int, error) {
	l.p.opts.Log.Debug(strings.TrimSpace(string(line)))
	return len(line), nil
}

func (p *Proxy) serveH2(ln net.Listener) error {
	err := p.h2.Serve(ln)
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return fmt.Errorf("cannot serve HTTP/2: %w", err)
}

// exchange2 is one request over HTTP/2 and its answer.
type exchange2 struct {
	delivery
	w      http.ResponseWriter
	r      *http.Request
	head   *head
	upload upload2
	begun  bool // the answer has: its status stands
}

func (p *Proxy) handleH2(w http.ResponseWriter, r *http.Request) {
	x := &exchange2{w: w, r: r, delivery: delivery{p: p, rec: record{
		start: time.Now(), request: xid.New().String(), client: r.RemoteAddr,
		method: r.Method[:min(len(r.Method), maxMethod)], target: r.RequestURI,
	}}}
	err := x.serve()
	p.end(&x.rec)
	if err != nil {
		panic(http.ErrAbortHandler) // resets the stream: its answer is not whole
	}
}

// serve handles the request. An error ends an answer that has begun.
func (x *exchange2) serve() error {
	x.w.Header().Set("X-Request-Id", x.rec.request)
	x.w.Header()["Content-Type"] = nil // what the function does not say is not guessed
	path, authority := []byte(x.r.RequestURI), []byte(x.r.Host)
	if status, body, ours := x.p.ownPath(path, authority); ours {
		x.rec.status = status
		x.w.WriteHeader(status)
		io.WriteString(x.w, body)
		return nil
	}
	refusal := x.begin(path, authority)
	if refusal == nil {
		refusal = x.respond()
	}
	fault := x.settle()
	switch {
	case x.begun:
		return x.brokenOff(refusal, fault)
	case fault != nil:
		refusal = fault
	}
	x.refuse(refusal)
	return nil
}

// begin sends the request to an instance.
func (x *exchange2) begin(path, authority []byte) *refusal {
	if refusal := checkAuthority(authority); refusal != nil {
		return refusal
	}
	route, refusal := ParseRoute(path, authority, x.p.opts.Domain)
	if refusal != nil {
		return refusal
	}
	x.rec.tenant, x.rec.function = route.Tenant, route.Function
	x.head = heads.Get().(*head)
	if x.req, refusal = x.head.encode2(x.r, &x.rec, route, path, authority); refusal != nil {
		return refusal
	}
	if refusal = x.readInline(); refusal != nil {
		return refusal
	}
	return x.send()
}

// readInline reads the body if it is known to be small.
func (x *exchange2) readInline() *refusal {
	length := x.r.ContentLength
	if x.whole = length >= 0 && length <= inlineBody; !x.whole || length == 0 {
		return nil
	}
	if int64(cap(x.head.body)) < length {
		x.head.body = make([]byte, length)
	}
	x.head.body = x.head.body[:length]
	http.NewResponseController(x.w).SetReadDeadline(time.Now().Add(bodyStall))
	if _, err := io.ReadFull(x.r.Body, x.head.body); err != nil {
		return refuse(408, "body_cut_short", "the request's body did not arrive: %v", err)
	}
	x.req.Body, x.rec.in = x.head.body, length
	return nil
}

func (x *exchange2) send() *refusal {
	refusal := x.offer(x.r.Context())
	if refusal == nil && !x.whole {
		x.upload.start(x.w, x.r, x.stream)
	}
	return refusal
}

// respond waits for the answer and passes it on.
func (x *exchange2) respond() *refusal {
	for {
		r, err := x.begins(x.r.Context())
		if err == nil {
			return x.answer(r)
		}
		if x.gone() {
			return refusalFor(err, true)
		}
		if fault := x.settle(); fault != nil {
			return fault
		}
		if refusal := x.again(err); refusal != nil {
			return refusal
		}
		if refusal := x.send(); refusal != nil {
			return refusal
		}
	}
}

func (x *exchange2) gone() bool { return x.r.Context().Err() != nil }

// settle ends the use of the stream, and says what was wrong with the body.
func (x *exchange2) settle() *refusal {
	if x.stream == nil {
		return nil
	}
	x.stream.Cancel()
	fault := x.upload.finish(x.r)
	x.rec.in += x.upload.sent
	x.upload = upload2{}
	x.part()
	return fault
}

// brokenOff says why an answer ended early, nil when it did not.
func (x *exchange2) brokenOff(refusal, fault *refusal) error {
	x.dropHead()
	switch {
	case refusal == nil && fault == nil:
		return nil
	case x.gone() || refusal != nil && refusal.status == statusGone:
		x.rec.cause = "client_gone"
	case fault != nil:
		x.rec.cause = fault.cause
	default:
		x.rec.brokenOff(refusal)
	}
	return errors.New(x.rec.cause)
}

// refuse answers in place of an instance.
func (x *exchange2) refuse(r *refusal) {
	x.dropHead()
	if x.gone() {
		r = refusalFor(context.Cause(x.r.Context()), true)
	}
	x.rec.refused(r)
	if r.status == statusGone {
		return // nobody is there to be answered
	}
	h := x.w.Header()
	clear(h)
	h.Set("X-Request-Id", x.rec.request)
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	if r.retryAfter > 0 {
		h.Set("Retry-After", r.retrySeconds())
	}
	x.w.WriteHeader(r.status)
	x.w.Write(r.body(x.rec.request))
}

func (x *exchange2) dropHead() {
	if x.head != nil {
		heads.Put(x.head)
		x.head, x.req = nil, frames.Request{}
	}
}
