package cell

import (
	"strings"
	"testing"
	"time"
)

// Whatever a channel carries, it is read at once, and what comes of it is
// bounded: the code may have written it.
func TestParseMessage(t *testing.T) {
	for _, tc := range []struct {
		name, line string
		want       message
	}{
		{"a spare", `{"t":"spare"}`, message{T: "spare"}},
		{"a pong", `{"t":"pong","inflight":2,"idle":1500}`, message{T: "pong", Inflight: 2, Idle: 1500 * time.Millisecond}},
		{"a spare that shows itself", `{"t":"spare","eye":"_0a\"]","mark":"00ff"}`, message{T: "spare", Eye: "_0a", Mark: "00ff"}},
		{"a pong that counts", `{"t":"pong","n":"07f","inflight":2,"done":41}`, message{T: "pong", N: "07f", Inflight: 2, Done: 41, Counts: true}},
		{"a pong that counts wrong", `{"t":"pong","n":{},"done":"41"}`, message{T: "pong"}},
		{"a pong of one with raw streams", `{"t":"pong","inflight":2,"upgraded":2,"still":1500}`, message{T: "pong", Inflight: 2, Upgraded: 2, Still: 1500 * time.Millisecond}},
		{"a pong out of range", `{"t":"pong","inflight":-1,"idle":1e300}`, message{T: "pong", Idle: 1 << 40 * time.Millisecond}},
		{"a pong of the wrong types", `{"t":"pong","inflight":"2","idle":{}}`, message{T: "pong"}},
		{"a leave", `{"t":"leaving","code":"x","reason":"stopped"}`, message{T: "leaving", Reason: "stopped"}},
		{"Node's own", `{"cmd":"NODE_HANDLE_ACK"}`, message{}},
		{"a t of the wrong type", `{"t":{}}`, message{}},
		{"no JSON", `{"t":"fai`, message{T: "garbled"}},
		{"no object", `7`, message{T: "garbled"}},
		{"a failure", `{"t":"failed","error":{"status":200,"code":"syntax_error","message":"m","stack":"s"}}`, message{T: "failed", Error: &Error{Status: 400, Code: "syntax_error", Message: "m", Stack: "s"}}},
		{"a failure with a number for a code", `{"t":"failed","error":{"code":42,"message":7,"stack":[1]}}`, message{T: "failed", Error: &Error{Status: 400, Code: "42", Message: "7", Stack: ""}}},
		{"a failure without an error", `{"t":"failed","error":[]}`, message{T: "failed", Error: &Error{Status: 400, Code: "load_error", Message: "the code cannot be loaded", Stack: ""}}},
		{"an odd code", `{"t":"failed","error":{"code":"a b\nü!"}}`, message{T: "failed", Error: &Error{Status: 400, Code: "ab", Message: "the code cannot be loaded", Stack: ""}}},
	} {
		got := parseMessage([]byte(tc.line))
		if g, w := got.Error, tc.want.Error; g != nil && w != nil {
			if *g != *w {
				t.Errorf("%s: got %+v, want %+v", tc.name, g, w)
			}
			got.Error, tc.want.Error = nil, nil
		}
		if got != tc.want {
			t.Errorf("%s: got %+v, want %+v", tc.name, got, tc.want)
		}
	}
	e := parseMessage([]byte(`{"t":"failed","error":{"code":"` + strings.Repeat("c", 30_000) + `","message":"` + strings.Repeat("ü", 30_000) + `","stack":"` + strings.Repeat("s", 30_000) + `"}}`)).Error
	if len(e.Code) != maxErrorCode || len(e.Message) > maxErrorMessage || len(e.Stack) > maxErrorStack || !strings.HasPrefix(e.Message, "üü") {
		t.Errorf("a code of %d, a message of %d, a stack of %d bytes", len(e.Code), len(e.Message), len(e.Stack))
	}
}

// Code that writes to its channel fails at once, rather than after the time
// that loading may take.
func TestGarbledChannel(t *testing.T) {
	c := startTestCell(t)
	for _, tc := range []struct{ name, write, want string }{
		{"a half line", `{"t":"fail\n`, "load_error"},
		{"a line longer than any may be", `" + "x".repeat(1e6) + "\n`, "load_error"},
		{"a forged failure with odd types", `{"t":"failed","error":{"code":7,"message":{}}}\n`, "7"},
	} {
		write := strings.ReplaceAll(tc.write, `"`, `\"`)
		if strings.Contains(tc.write, "repeat") {
			write = tc.write
		}
		start := time.Now()
		r := c.ask(t, Request{Op: "serve", Function: "f", Version: tc.name, File: "f.mjs", Code: `import fs from 'fs'; const all = Buffer.from("` + write + `"); for (let at = 0; at < all.length;) try { at += fs.writeSync(3, all, at); } catch (e) { if (e.code !== 'EAGAIN') throw e; } await new Promise((go) => setTimeout(go, 60000)); export default (cb) => cb();`})
		if r.Error == nil || r.Error.Code != tc.want || r.Error.Status != 400 {
			t.Errorf("%s: got %+v (%+v)", tc.name, r, r.Error)
		}
		if took := time.Since(start); took > loadTimeout/2 {
			t.Errorf("%s: it took %v", tc.name, took)
		}
	}
}
