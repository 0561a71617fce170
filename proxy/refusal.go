package proxy

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"bulkhead/internal/comeback"
)

// refusal is an answer that the proxy gives in place of an instance.
type refusal struct {
	status     int
	cause      string // machine-readable, snake_case
	message    string
	retryAfter time.Duration
}

func refuse(status int, cause, format string, args ...any) *refusal {
	return &refusal{status: status, cause: cause, message: fmt.Sprintf(format, args...)}
}

// write makes it the answer: the platform's error JSON (docs/errors.md).
func (r *refusal) write(resp *fasthttp.Response, request string) {
	resp.Reset()
	resp.SetStatusCode(r.status)
	resp.Header.SetContentType("application/json")
	resp.Header.Set("Cache-Control", "no-store")
	if r.retryAfter > 0 {
		resp.Header.Set("Retry-After", r.retrySeconds())
	}
	resp.SetBody(r.body(request))
}

func (r *refusal) body(request string) []byte {
	body, _ := json.Marshal(struct {
		Code    int    `json:"code"`
		Error   string `json:"error"`
		Message string `json:"message"`
		Request string `json:"req_id"`
	}{r.status, r.cause, r.message, request})
	return append(body, '\n')
}

func (r *refusal) retrySeconds() string {
	return strconv.Itoa(comeback.After(r.retryAfter))
}
