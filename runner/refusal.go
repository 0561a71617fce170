package runner

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"bulkhead/internal/comeback"
	"bulkhead/internal/frames"
)

// Refusal is an answer that the platform gives instead of the tenant's code.
type Refusal struct {
	Status     int           // HTTP
	Cause      string        // machine-readable, snake_case; few of them
	Message    string        // says what was wrong and what would be right
	RetryAfter time.Duration // when it is worth trying again; 0: not said
	Stack      string        // of the tenant's own code, when it is at fault

	// Of a limit that was crossed; empty where there is none.
	Limit    string // its name in a spec
	Value    string
	Measured string
	Where    string // file:line:column in the tenant's code

	limited string // the policy that a client has come up against
}

func (r *Refusal) Error() string { return fmt.Sprintf("%d %s: %s", r.Status, r.Cause, r.Message) }

func refuse(status int, cause, format string, args ...any) *Refusal {
	return &Refusal{Status: status, Cause: cause, Message: fmt.Sprintf(format, args...)}
}

func quoted(s string) string { return strconv.Quote(s) }

// rounded is a time as people want to read it.
func rounded(d time.Duration) string {
	if d > time.Second {
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(time.Millisecond).String()
}

// Bounds of what an answer repeats of the tenant's own code, in bytes. Escaped
// sixfold they still fit a frame.
const (
	maxMessage = 4 << 10
	maxStack   = 8 << 10
	maxCause   = 64
	maxReason  = 1 << 10 // of a RESET
)

// clip cuts a text to n bytes, between two characters.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

// causeOf makes a cause of what tenants' code may have written.
func causeOf(s string) string {
	ok := func(c rune) bool { return c == '_' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }
	if s == "" || len(s) > maxCause || strings.ContainsFunc(s, func(c rune) bool { return !ok(c) }) {
		return "function_error"
	}
	return s
}

// body is the platform's error JSON (docs/errors.md).
func (r *Refusal) body(request string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.Encode(struct {
		Code    int    `json:"code"`
		Error   string `json:"error"`
		Message string `json:"message"`
		Stack   string `json:"stack,omitempty"`

		Limit    string `json:"limit,omitempty"`
		Value    string `json:"value,omitempty"`
		Measured string `json:"measured,omitempty"`
		Where    string `json:"where,omitempty"`

		Request string `json:"req_id"`
	}{r.Status, r.Cause, clip(r.Message, maxMessage), clip(r.Stack, maxStack), r.Limit, r.Value, r.Measured, clip(r.Where, maxReason), request})
	return b.Bytes()
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
		seconds := strconv.Itoa(comeback.After(r.RetryAfter))
		add("retry-after", seconds)
		if r.limited != "" {
			add("ratelimit-policy", r.limited)
			name, _, _ := strings.Cut(r.limited, ";")
			add("ratelimit", name+";r=0;t="+seconds)
		}
	}
	return h
}

// policy names what a client has come up against: so many requests in so many
// seconds (draft-ietf-httpapi-ratelimit-headers).
func (r *Refusal) policy(name string, requests int64, seconds int) {
	r.limited = fmt.Sprintf("%q;q=%d;w=%d", name, requests, seconds)
}
