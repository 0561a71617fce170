package cell

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"bulkhead/cell/watch"
	"bulkhead/internal/cellctl"
)

// Requests that wait for something slow, honest work that takes its time and
// many small requests go on side by side, and nobody is accused: not even when
// so many have work at the same time that the event loop does not come round.
func TestHonestWorkIsLeftAlone(t *testing.T) {
	c := startTestCell(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go answerSlowly(l, 1500*time.Millisecond)
	code := fmt.Sprintf(`const http = require('http');
const work = (ms) => { const end = process.hrtime.bigint() + BigInt(ms) * 1000000n; while (process.hrtime.bigint() < end) ; };
module.exports = (ctx, cb) => {
  switch (ctx.query.what) {
  case 'slow': http.get({ port: %d, agent: false }, (r) => r.resume().on('end', () => cb(null, 'slow'))).on('error', cb); break;
  case 'burst': setTimeout(() => { work(20); cb(null, 'burst'); }, 300); break;
  case 'work': work(100); cb(null, 'work'); break;
  default: cb(null, 'quick');
  }
};`, l.Addr().(*net.TCPAddr).Port)
	r := c.mustServe(t, Request{Function: "honest", Version: "v1", File: "f.js", Code: code, Limits: &cellctl.Limits{Block: 500, CPU: 1000, Background: 1000}})
	client := c.connect(t, r.Socket)
	var wg sync.WaitGroup
	for what, n := range map[string]int{"slow": 200, "work": 15, "burst": 60, "quick": 200} {
		for i := range n {
			wg.Go(func() {
				if got := c.body(t, client, fmt.Sprint(what, i), "/?what="+what); got != `"`+what+`"` {
					t.Errorf("a %s request got %s", what, got)
				}
			})
		}
	}
	wg.Wait()
	if got := c.body(t, client, "last", "/"); got != `"quick"` || len(c.verdicts) > 0 || len(c.events) > 0 {
		t.Errorf("in the end it answers %s; %d verdicts, %d exits", got, len(c.verdicts), len(c.events))
	}
}

// answerSlowly is an HTTP server that takes its time.
func answerSlowly(l net.Listener, wait time.Duration) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		time.AfterFunc(wait, func() {
			conn.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"))
			conn.Close()
		})
	}
}

// Code that goes on burning CPU after its answer is found, nobody is blamed,
// and its process makes room for another.
func TestMiner(t *testing.T) {
	c := startTestCell(t)
	req := Request{Function: "miner", Version: "v1", File: "f.js", Limits: &cellctl.Limits{Block: 500, CPU: 300},
		Code: `const mine = () => { const end = Date.now() + 5; while (Date.now() < end) ; setImmediate(mine); }; module.exports = (ctx, cb) => { cb(null, 'answer'); mine(); }`}
	r := c.mustServe(t, req)
	if got := c.body(t, c.connect(t, r.Socket), "r1", "/"); got != `"answer"` {
		t.Fatalf("the code answered %s", got)
	}
	v := c.nextVerdict(t)
	if v.Verdict.Kind != watch.Idle || v.Verdict.Request != "" || v.Verdict.Limit != 300 || v.Socket != r.Socket {
		t.Errorf("the verdict is %+v", *v.Verdict)
	}
	if again := c.mustServe(t, req); again.PID == r.PID {
		t.Error("the process that was found still serves")
	}
	if e := c.nextEvent(t); e.Socket != r.Socket || e.Exit.Verdict == nil || *e.Exit.Verdict != *v.Verdict || !strings.HasPrefix(e.Exit.Reason, "it was replaced: its code used") {
		t.Errorf("the exit is %+v", e.Exit)
	}
}

// A container that is stopped for a while, cell and all, accuses nobody when it
// goes on: a request that waits at that moment is answered.
func TestFrozenInBetween(t *testing.T) {
	c := startTestCell(t)
	r := c.mustServe(t, Request{Function: "wait", Version: "v1", File: "f.js", Limits: &cellctl.Limits{Block: 50, CPU: 100, Background: 100},
		Code: `module.exports = (ctx, cb) => { console.log('in'); setTimeout(() => cb(null, 'woke'), 100); }`})
	client := c.connect(t, r.Socket)
	got := make(chan string, 1)
	go func() { got <- c.body(t, client, "r1", "/") }()
	c.waitLog(t, func(m map[string]any) bool { return m["message"] == "in" })
	both := []int{c.cmd.Process.Pid, r.PID}
	for _, pid := range both {
		syscall.Kill(pid, syscall.SIGSTOP)
	}
	frozen := time.NewTimer(1500 * time.Millisecond)
	<-frozen.C
	for _, pid := range both {
		syscall.Kill(pid, syscall.SIGCONT)
	}
	if answer := <-got; answer != `"woke"` {
		t.Errorf("the request got %s", answer)
	}
	c.ask(t, Request{Op: "status"})
	if len(c.verdicts) > 0 {
		t.Errorf("a verdict came: %+v", *(<-c.verdicts).Verdict)
	}
}

// A process that was broken into serves nobody new, though others' requests of
// it are still in flight.
func TestTainted(t *testing.T) {
	c := startTestCell(t)
	req := Request{Function: "loop", Version: "v1", File: "f.js", Limits: &cellctl.Limits{Block: 100},
		Code: `let open; module.exports = (ctx, cb) => { if (ctx.query.open) { console.log('open'); open = cb; return; } if (ctx.query.close) { open(null, 'closed'); cb(); return; } for (;;) ; }`}
	first := c.mustServe(t, req)
	client := c.connect(t, first.Socket)
	opened := make(chan string, 1)
	go func() { opened <- c.body(t, client, "open", "/?open=1") }()
	c.waitLog(t, func(m map[string]any) bool { return m["message"] == "open" })
	bad, err := c.connect(t, first.Socket).Open(asked("bad", "/"), true)
	if err != nil {
		t.Fatal(err)
	}
	defer bad.Close()
	if v := c.nextVerdict(t); v.Verdict.Request != "bad" {
		t.Errorf("the verdict is %+v", *v.Verdict)
	}
	second := c.mustServe(t, req)
	if second.PID == first.PID {
		t.Error("a tainted process serves")
	}
	// The inspector is closed again, or is being closed; nothing of it was logged.
	c.waitLog(t, func(m map[string]any) bool {
		return m["level"] == "platform" && strings.Contains(fmt.Sprint(m["message"]), "did not return to the event loop")
	})
	for _, m := range c.seen {
		if s := fmt.Sprint(m["message"]); strings.Contains(s, "ebugger") || strings.Contains(s, "ws://") {
			t.Errorf("the log says %q", s)
		}
	}
}

// Of what a dying process prints, the cell takes that its heap is full and the
// tenant's own innermost line.
func TestObituary(t *testing.T) {
	for _, tc := range []struct {
		name, lines string
		want        last
	}{
		{"a full heap", "<--- Last few GCs --->\n", last{full: true}},
		{"a full heap, later", "FATAL ERROR: Ineffective mark-compacts near heap limit Allocation failed - JavaScript heap out of memory\n", last{full: true}},
		{"an abort", "----- JavaScript stack trace -----\n\n1: fail (node:assert:126:3)\n2: eat (/function/f.js:12:7)\n3: /function/f.js:1:50\n", last{where: "f.js:12:7"}},
		{"an abort at the top of a module", "----- JavaScript stack trace -----\n\n1: file:///function/f.mjs:1:50\n", last{where: "f.mjs:1:50"}},
		{"a frame without a trace", "1: eat (/function/f.js:12:7)\n", last{}},
		{"a record of the harness", "\x1e<--- Last few GCs --->\n", last{}},
	} {
		var o obituary
		var got last
		readLines(strings.NewReader(tc.lines), func(line []byte) {
			if l := o.read(line); l != (last{}) && got == (last{}) {
				got = l
			}
		})
		if got != tc.want {
			t.Errorf("%s: got %+v, want %+v", tc.name, got, tc.want)
		}
	}
}

// The mark is found where memory may hold it, and nowhere else.
func TestSearch(t *testing.T) {
	want := []byte("0123456789abcdef")
	mem := make([]byte, 3*markChunk)
	file, err := os.Create(filepath.Join(t.TempDir(), "mem"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	at := 2*markChunk + 5*markBlock + markOffset
	copy(mem[at:], want)
	copy(mem[100:], want)
	if _, err := file.Write(mem); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name, maps string
		want       int64
	}{
		{"anonymous memory", "00000000-00300000 rw-p 00000000 00:00 0 \n", int64(at)},
		{"among others", "00000000-00100000 r--p 00000000 00:00 0\n00100000-00300000 rw-p 00000000 00:00 0\n", int64(at)},
		{"a file's", "00000000-00300000 rw-p 00000000 08:01 123 /lib/x\n", 0},
		{"shared", "00000000-00300000 rw-s 00000000 00:00 0\n", 0},
		{"not there", "00000000-00100000 rw-p 00000000 00:00 0\n", 0},
		{"nonsense", "x-y rw-p 0 0 0\n\n-\n", 0},
	} {
		if got := search([]byte(tc.maps), file, want); got != tc.want {
			t.Errorf("%s: %#x, want %#x", tc.name, got, tc.want)
		}
	}
}

// Two requests of one process that loop, one after the other, are each found:
// the inspector opens again.
func TestTwoLoops(t *testing.T) {
	c := startTestCell(t)
	r := c.mustServe(t, Request{Function: "loop", Version: "v1", File: "f.js", Limits: &cellctl.Limits{Block: 100},
		Code: `module.exports = (ctx, cb) => { const loop = () => { for (;;) ; }; setTimeout(loop, 10); }`})
	client := c.connect(t, r.Socket)
	start := time.Now()
	want := map[string]bool{"one": true, "two": true}
	for id := range want {
		s, err := client.Open(asked(id, "/"), true)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
	}
	for range 2 {
		v := c.nextVerdict(t)
		if v.Socket != r.Socket || v.Verdict.Kind != watch.Block || v.Verdict.Killed || !want[v.Verdict.Request] {
			t.Errorf("the verdict is %+v of %s", *v.Verdict, v.Socket)
		}
		delete(want, v.Verdict.Request)
		t.Logf("after %v: %+v", time.Since(start), *v.Verdict)
	}
}

// Code that comes back just when it is broken into is either found or let go,
// but nobody else is blamed for it, and no process is killed.
func TestJustOverTheLimit(t *testing.T) {
	c := startTestCell(t)
	req := Request{Function: "close", Version: "v1", File: "f.js", Limits: &cellctl.Limits{Block: 100},
		Code: `module.exports = (ctx, cb) => { const end = process.cpuUsage().user + Number(ctx.query.ms || 0) * 1000; while (process.cpuUsage().user < end) ; setTimeout(() => cb(null, 'back'), 5); }`}
	for ms := 100; ms < 240; ms += 10 {
		r := c.mustServe(t, req)
		client := c.connect(t, r.Socket)
		bad, err := client.Open(asked("long", fmt.Sprintf("/?ms=%d", ms)), true)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			// One that comes after the verdict is refused: the runner sends it elsewhere.
			if got := c.body(t, client, fmt.Sprint("other", i), "/"); got != `"back"` && !strings.Contains(got, "stream refused") {
				t.Errorf("beside %d ms of work, another request got %s", ms, got)
			}
		}
		bad.Close()
		c.ask(t, Request{Op: "status"})
		for len(c.verdicts) > 0 {
			if v := <-c.verdicts; v.Verdict.Request != "long" || v.Verdict.Killed {
				t.Errorf("after %d ms of work the verdict is %+v", ms, *v.Verdict)
			}
		}
	}
}
