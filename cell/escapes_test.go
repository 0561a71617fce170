package cell

import (
	"strings"
	"testing"
	"time"

	"bulkhead/cell/watch"
	"bulkhead/internal/cellctl"
)

// Code that goes on passing the limit and comes back just in time is one time
// too many; honest work that does so now and then is not.
func TestEscapes(t *testing.T) {
	const limit = time.Second
	for _, tc := range []struct {
		name  string
		turn  string
		apart time.Duration // CPU from one to the next
		ends  int64         // requests that end in between
		want  bool
	}{
		{"one request's turns, one after the other", "r", limit, 0, true},
		{"those of requests that end", "r", limit, 1, true},
		{"now and then", "r", 10 * limit, 1, false},
		{"somebody's, and nothing ends", "", limit, 0, true},
		{"many requests' in each round", "", limit, 20, false},
	} {
		var e escapes
		got := false
		for i := range time.Duration(maxEscapes) {
			got = e.again(watch.Breach{Kind: watch.Block, Limit: limit, Measured: limit}, tc.turn, i*tc.apart, int64(i)*tc.ends)
		}
		if got != tc.want {
			t.Errorf("%s: got %v", tc.name, got)
		}
	}
}

// A loop that says itself that it answers is stopped like any other, and the
// cell does not spend itself on reading what it says.
func TestForgedAnswers(t *testing.T) {
	c := startTestCell(t)
	for _, tc := range []struct{ name, pause string }{
		{"now and then", "const until = performance.now() + 2; while (performance.now() < until) ;"},
		{"as fast as it can", ""},
	} {
		r := c.mustServe(t, Request{Function: "forger", Version: tc.name, File: "f.js", Limits: &cellctl.Limits{Block: testBlock},
			Code: `module.exports = (ctx, cb) => { for (let n = 1;; n++) { try { require('fs').writeSync(3, '{"t":"pong","n":' + n % 40 + ',"inflight":1,"done":' + n + '}\n'); } catch {} ` + tc.pause + ` } }`})
		bad, err := c.connect(t, r.Socket).Open(asked("bad", "/"), true)
		if err != nil {
			t.Fatal(err)
		}
		start, before := time.Now(), cpuTime(t, c.cmd.Process.Pid)
		v := c.nextVerdict(t)
		if v.Verdict.Kind != watch.Block || v.Verdict.Request != "bad" {
			t.Errorf("%s: the verdict is %+v", tc.name, *v.Verdict)
		}
		t.Logf("%s: after %v, of which the cell used %v", tc.name, time.Since(start), cpuTime(t, c.cmd.Process.Pid)-before)
		bad.Close()
	}
}

// Whose async context a loop has borrowed is not to blame: it is answered, and
// whoever called the loop is stopped.
func TestBorrowedContext(t *testing.T) {
	c := startTestCell(t)
	r := c.mustServe(t, Request{Function: "batch", Version: "v", File: "f.js", Limits: &cellctl.Limits{Block: testBlock},
		Code: `const { AsyncLocalStorage } = require('async_hooks'); let lent;
module.exports = (ctx, cb) => {
  if (ctx.query.lend) { lent = AsyncLocalStorage.snapshot(); console.log('lent'); setTimeout(() => cb(null, 'innocent'), 100); return; }
  lent(() => { for (;;) ; });
};`})
	client := c.connect(t, r.Socket)
	got := make(chan string, 1)
	go func() { got <- c.body(t, client, "lender", "/?lend=1") }()
	c.waitLog(t, func(m map[string]any) bool { return m["message"] == "lent" })
	cut := make(chan string, 1)
	go func() { cut <- c.body(t, client, "borrower", "/") }()
	if v := c.nextVerdict(t); v.Verdict.Request != "borrower" || v.Verdict.Killed || !strings.HasPrefix(v.Verdict.Where, "f.js:4:") {
		t.Errorf("the verdict is %+v", *v.Verdict)
	}
	if s := <-got; s != `"innocent"` {
		t.Errorf("the lender got %s", s)
	}
	if s := <-cut; !strings.Contains(s, "508") {
		t.Errorf("whose turn was cut short got %s", s)
	}
}
