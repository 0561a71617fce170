package proxy

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"bulkhead/internal/frames"
)

// answer passes the answer on as it comes.
func (x *exchange2) answer(r frames.Response) *refusal {
	length := x.fill(r)
	x.rec.cause = cause(r.Fields.Get(frames.FieldCause))
	left, whole := x.stream.Whole()
	empty := bodiless(r.Status, x.r.Method == "HEAD")
	if whole = whole && x.stream.Trailers() == nil; whole && !empty && length >= 0 && length != left {
		return refuse(502, "bad_answer", "the function said content-length %d and sent %d bytes", length, left)
	}
	if length >= 0 && (!empty || x.r.Method == "HEAD") {
		x.w.Header().Set("Content-Length", strconv.Itoa(length))
	}
	x.begun, x.rec.status = true, r.Status
	x.w.WriteHeader(r.Status)
	if empty {
		return nil
	}
	control := http.NewResponseController(x.w)
	if !whole {
		control.Flush()
	}
	for {
		chunk, err := x.stream.Next(x.r.Context())
		switch {
		case err != nil:
			return refusalFor(err, x.gone())
		case chunk == nil && length >= 0 && x.rec.out != int64(length):
			return refuse(502, "bad_answer", "the function said content-length %d and sent %d bytes", length, x.rec.out)
		case chunk == nil:
			x.trail()
			return nil
		}
		control.SetWriteDeadline(time.Now().Add(writeStall))
		n, err := x.w.Write(chunk)
		x.rec.out += int64(n)
		if err == nil && !whole {
			err = control.Flush()
		}
		if errors.Is(err, http.ErrContentLength) {
			return refuse(502, "bad_answer", "the answer is longer than its content-length")
		}
		if err != nil {
			return refusalFor(err, true)
		}
	}
}

// fill copies the answer's headers. It returns the body's length, -1 when they
// do not say.
func (x *exchange2) fill(r frames.Response) (length int) {
	length = -1
	h := x.w.Header()
	for name, value := range r.Headers.All() {
		switch string(name) {
		case "connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "te", "trailer", "x-request-id":
		case "content-length":
			if n, err := strconv.Atoi(string(value)); err == nil && n >= 0 {
				length = n
			}
		default:
			h.Add(string(name), string(value))
		}
	}
	return length
}

func (x *exchange2) trail() {
	for name, value := range x.stream.Trailers().All() {
		if frames.MayTrail(name) {
			x.w.Header().Add(http.TrailerPrefix+string(name), string(value))
		}
	}
}
