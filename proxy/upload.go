package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"bulkhead/internal/frames"
)

// upload sends a request's body beside its answer: both ways stream.
type upload struct {
	ctx     *fasthttp.RequestCtx
	body    io.Reader
	length  int // content-length; -1: chunked
	stream  *frames.Stream
	sent    int64
	stalled bool // the client sent nothing for bodyStall
	stop    atomic.Bool
	done    chan error // nil when there is nothing to wait for
}

// errCutOff is the end of an upload that nobody wants the rest of.
var errCutOff = errors.New("the answer was whole before the request's body")

// errCutShort is a body that ended before its length or its last chunk.
var errCutShort = errors.New("the client ended the body early")

func (u *upload) start() {
	u.done = make(chan error, 1)
	go func() { u.done <- u.run() }()
}

// run copies the body until its end, the answer's, or a client that stalls.
func (u *upload) run() error {
	buf := make([]byte, 32<<10)
	for {
		armed := time.Now()
		u.ctx.SetReadDeadline(armed.Add(bodyStall))
		if u.stop.Load() {
			return errCutOff
		}
		n, err := u.body.Read(buf)
		u.sent += int64(n)
		end := errors.Is(err, io.EOF)
		if end && u.cutShort() {
			end, err = false, errCutShort
		}
		if n > 0 || end {
			if err := u.pass(buf[:n], end); err != nil {
				giveUp(u.stream, err)
				return errCutOff // the answer tells why
			}
		}
		_, answered := u.stream.Whole()
		switch {
		case end:
			return nil
		case answered:
			return errCutOff
		case err != nil && u.stop.Load():
			return errCutOff
		case err != nil:
			u.stalled = time.Since(armed) >= bodyStall
			u.stream.Reset(frames.CodeCancelled, "the request's body was cut short")
			return err
		}
	}
}

// giveUp ends a stream that took no more of the body, if it has not ended.
func giveUp(s *frames.Stream, err error) {
	if errors.Is(err, frames.ErrBacklog) {
		s.Reset(frames.CodeInternal, err.Error())
	}
}

// pass sends some of the body on, and with its end the trailers.
func (u *upload) pass(p []byte, end bool) error {
	var trailers frames.Headers
	if end {
		trailers = u.trailers()
	}
	err := u.stream.Write(context.Background(), p, end && trailers == nil)
	if err == nil && trailers != nil {
		err = u.stream.WriteTrailers(trailers)
	}
	return err
}

// cutShort reports whether the body's end is only the connection's: fasthttp
// takes that for a good end.
func (u *upload) cutShort() bool {
	if u.length >= 0 {
		return u.sent < int64(u.length)
	}
	c, ok := u.ctx.Conn().(*stallConn)
	return ok && c.ended
}

// finish waits for the upload to end. An answer that is whole before the body
// was cuts the body off, and with it the client's connection. The stream must
// be at its end, or reset, so that nothing waits for the window.
func (u *upload) finish() error {
	if u.done == nil {
		return nil
	}
	select {
	case err := <-u.done:
		u.done = nil
		return err
	default:
	}
	u.stop.Store(true) // before the deadline, which run may be moving on
	u.ctx.SetReadDeadline(time.Now())
	err := <-u.done
	u.done = nil
	return err
}

// refusal says what was wrong with the body, nil when nothing was. The upload
// has ended with err.
func (u *upload) refusal(err error) *refusal {
	switch {
	case err == nil || errors.Is(err, errCutOff):
		return nil
	case u.stalled:
		return refuse(408, "body_cut_short", "no byte of the request's body came for %v", bodyStall)
	}
	if c, ok := u.ctx.Conn().(*stallConn); errors.Is(err, errCutShort) || ok && c.ended || isNetwork(err) {
		return refuse(408, "body_cut_short", "the request's body did not arrive: it ended after %d bytes", u.sent)
	}
	return refuse(400, "bad_request", "the request's body is not well chunked: %v", err)
}

func isNetwork(err error) bool {
	var n net.Error
	return errors.As(err, &n)
}
