package cell

import (
	"cmp"
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// Bounds of what is taken from a process's channel, in bytes.
const (
	maxReason       = 1024 // in which a process's end is explained
	maxErrorCode    = 64
	maxErrorMessage = 4 << 10
	maxErrorStack   = 16 << 10
)

// message is what the harness says on its channel.
type message struct {
	T        string // spare, serving, failed, pong, leaving; garbled: no message
	Reason   string
	Error    *Error // of failed: never nil
	Inflight int
	Idle     time.Duration
	N        string        // of a ping; empty: it has none
	Done     int64         // requests that have ended
	Counts   bool          // it says how many
	Upgraded int           // of those in flight, the streams of raw bytes
	Still    time.Duration // since something has moved in one of those
	Eye      string        // of spare
	Mark     string        // of spare
}

// parseMessage reads a line from a channel. The code can write there as well
// (it is descriptor 3), so nothing is taken on trust: what has the wrong type
// counts as absent, and texts are cut. Node's own messages have no T.
func parseMessage(line []byte) message {
	var raw map[string]any
	if json.Unmarshal(line, &raw) != nil {
		return message{T: "garbled"}
	}
	m := message{T: text(raw["t"]), Reason: cut(text(raw["reason"]), maxReason)}
	m.Inflight = int(number(raw["inflight"], 1<<30))
	m.Eye, m.Mark = word(text(raw["eye"])), word(text(raw["mark"]))
	m.N, m.Done = word(text(raw["n"])), int64(number(raw["done"], 1<<50))
	_, m.Counts = raw["done"].(float64)
	m.Idle = time.Duration(number(raw["idle"], 1<<40)) * time.Millisecond
	m.Upgraded = int(number(raw["upgraded"], 1<<30))
	m.Still = time.Duration(number(raw["still"], 1<<40)) * time.Millisecond
	if m.T == "failed" {
		e, _ := raw["error"].(map[string]any)
		m.Error = loadError(text(e["code"]), text(e["message"]), text(e["stack"]))
	}
	return m
}

// loadError says that code is at fault, in words that may be the code's own.
func loadError(code, message, stack string) *Error {
	return &Error{
		Status:  400,
		Code:    cmp.Or(word(code), "load_error"),
		Message: cmp.Or(clip(message, maxErrorMessage), "the code cannot be loaded"),
		Stack:   clip(stack, maxErrorStack),
	}
}

// text is a string, or a number as one.
func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return ""
}

// number is a number between 0 and limit.
func number(v any, limit float64) float64 {
	n, _ := v.(float64)
	return min(max(n, 0), limit)
}

// word is the letters, digits and underscores of s, as many as a code may have.
func word(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
			return r
		}
		return -1
	}, s)
	return s[:min(len(s), maxErrorCode)]
}

// clip shortens s to at most n bytes, the words that say so among them.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return cut(s, n-32)
}
