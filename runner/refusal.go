package runner

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"bulkhead/internal/frames"
)

// Refusal is an answer that the platform gives instead of the tenant's code.
type Refusal struct {
	Status     int           // HTTP
	Cause      string        // machine-readable, snake_case; few of them
	Message    string        // says what was wrong and what would be right
	RetryAfter time.Duration // when it is worth trying again; 0: not said
	Stack      string        // of the tenant's own code, when it is at fault
}

func (r *Refusal) Error() string { return fmt.Sprintf("%d %s: %s", r.Status, r.Cause, r.Message) }

func refuse(status int, cause, format string, args ...any) *Refusal {
	return &Refusal{Status: status, Cause: cause, Message: fmt.Sprintf(format, args...)}
}

// body is the platform's error JSON (docs/errors.md).
func (r *Refusal) body(request string) []byte {
	b, _ := json.Marshal(struct {
		Code    int    `json:"code"`
		Error   string `json:"error"`
		Message string `json:"message"`
		Stack   string `json:"stack,omitempty"`
		Request string `json:"req_id"`
	}{r.Status, r.Cause, r.Message, r.Stack, request})
	return append(b, '\n')
}

// appendFrame appends the refusal as the whole answer on a stream.
func (r *Refusal) appendFrame(dst []byte, stream uint32, request string) []byte {
	body := r.body(request)
	head := frames.Response{
		Status:  r.Status,
		Fields:  frames.AppendField(append([]byte{}, frames.NoFields...), 0, frames.FieldCause, []byte(r.Cause)),
		Headers: r.headers(len(body)),
	}.AppendHead(nil)
	dst = frames.AppendHeader(dst, frames.TypeResponse, true, stream, len(head)+len(body))
	return append(append(dst, head...), body...)
}

func (r *Refusal) headers(length int) frames.Headers {
	h := frames.AppendHeaderCount(nil)
	add := func(name, value string) { h = frames.AppendHeaderLine(h, 0, []byte(name), []byte(value)) }
	add("content-type", "application/json")
	add("content-length", strconv.Itoa(length))
	add("cache-control", "no-store")
	if r.Status == 401 {
		// RFC 6750, section 3: no error code when no token was sent.
		challenge := `Bearer realm="bulkhead"`
		if r.Cause != causeNoToken {
			challenge += `, error="invalid_token"`
		}
		add("www-authenticate", challenge)
	}
	if r.RetryAfter > 0 {
		seconds := (r.RetryAfter + time.Second - 1) / time.Second
		add("retry-after", strconv.Itoa(int(seconds)))
	}
	return h
}
