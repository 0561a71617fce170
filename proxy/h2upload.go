package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"bulkhead/internal/frames"
)

// upload2 sends a request's body, which came over HTTP/2, beside its answer.
type upload2 struct {
	sent int64
	stop atomic.Bool
	done chan error // nil when there is nothing to wait for
}

func (u *upload2) start(w http.ResponseWriter, r *http.Request, s *frames.Stream) {
	u.done = make(chan error, 1)
	go func() { u.done <- u.run(http.NewResponseController(w), r, s) }()
}

// run copies the body until its end, the answer's, or a client that stalls.
func (u *upload2) run(control *http.ResponseController, r *http.Request, s *frames.Stream) error {
	buf := make([]byte, 32<<10)
	for {
		if err := control.SetReadDeadline(time.Now().Add(bodyStall)); err != nil {
			return err
		}
		n, err := r.Body.Read(buf)
		u.sent += int64(n)
		end := errors.Is(err, io.EOF)
		if n > 0 || end {
			if passed := u.pass(r, s, buf[:n], end); passed != nil {
				return errCutOff // the answer tells why
			}
		}
		_, answered := s.Whole()
		switch {
		case end:
			return nil
		case answered, err != nil && u.stop.Load():
			return errCutOff
		case err != nil:
			s.Reset(frames.CodeCancelled, "the request's body was cut short")
			return err
		}
	}
}

// pass sends some of the body on, and with its end the trailers.
func (u *upload2) pass(r *http.Request, s *frames.Stream, p []byte, end bool) error {
	var trailers frames.Headers
	if end {
		trailers = trailersOf(r.Trailer)
	}
	err := s.Write(context.Background(), p, end && trailers == nil)
	if err == nil && trailers != nil {
		err = s.WriteTrailers(trailers)
	}
	return err
}

func trailersOf(h http.Header) frames.Headers {
	out := frames.AppendHeaderCount(nil)
	none := len(out)
	for name, values := range h {
		lower := bytes.ToLower([]byte(name))
		for _, value := range values {
			if frames.MayTrail(lower) && len(out)+len(name)+len(value) < maxHeader {
				out = frames.AppendHeaderLine(out, 0, lower, []byte(value))
			}
		}
	}
	if len(out) == none {
		return nil
	}
	return out
}

// finish waits for the upload to end, and says what was wrong with the body.
// The stream must be at its end, or reset, so that nothing waits for the
// window.
func (u *upload2) finish(r *http.Request) *refusal {
	if u.done == nil {
		return nil
	}
	u.stop.Store(true)
	var err error
	select {
	case err = <-u.done:
	default:
		r.Body.Close() // wakes a read
		err = <-u.done
	}
	switch {
	case err == nil || errors.Is(err, errCutOff):
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return refuse(408, "body_cut_short", "no byte of the request's body came for %v", bodyStall)
	}
	return refuse(408, "body_cut_short", "the request's body did not arrive: it ended after %d bytes: %v", u.sent, err)
}
