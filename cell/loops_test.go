package cell

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"bulkhead/cell/watch"
	"bulkhead/internal/cellctl"
	"bulkhead/internal/frames"
)

// loop is a way for code not to come back.
type loop struct {
	name   string
	body   string // of a function of (ctx, cb); the line with "//!" is where it hangs
	kind   string
	killed bool // it is native code, which nothing can interrupt
	lost   bool // what the code does may hide the line or the request
}

// The function that holds a loop also serves others, whose answers wait for a
// timer: they come only if the process survives.
const around = `const { AsyncLocalStorage } = require('async_hooks');
const work = () => { let n = 0; for (let i = 0; i < 100000; i++) n += Math.sqrt(i); return n; };
async function guilty(ctx, cb) {
%s
}
module.exports = (ctx, cb) => {
  if (ctx.query.guilty) { guilty(ctx, cb); return; }
  setTimeout(() => cb(null, 'survived'), 200);
};
`

var loops = []loop{
	{name: "a loop", body: `for (;;) ; //!`},
	{name: "a loop with work", body: `for (;;) work(); //!`, lost: true},
	{name: "a loop in try, catch, finally", body: "for (;;) { try { for (;;) ; //!\n } catch (e) { for (;;) ; } finally { for (;;) ; } }"},
	{name: "a microtask loop", body: "const f = () => Promise.resolve().then(f); //!\n f();"},
	{name: "an async function's loop", body: `for (;;) await null; //!`},
	{name: "a nextTick loop", body: "const f = () => process.nextTick(f); //!\n f();"},
	{name: "a regular expression", body: `/^(a+)+$/.test('a'.repeat(40) + 'b'); //!`},
	{name: "Atomics.wait", body: `Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0); //!`, kind: watch.Stall},
	{name: "JSON with toJSON", body: "JSON.stringify({ toJSON() { for (;;) ; //!\n } });"},
	{name: "after a timer", body: "setTimeout(() => { for (;;) ; //!\n }, 5);"},
	{name: "after an await", body: "await new Promise((go) => setTimeout(go, 5)); for (;;) ; //!"},
	{name: "after IO", body: "require('fs').readFile('/etc/passwd', () => { for (;;) ; //!\n });"},
	{name: "a getter", body: "const o = { get x() { for (;;) ; //!\n } }; o.x;"},
	{name: "a generator", body: "function* g() { for (;;) yield 1; }\n for (const x of g()) ; //!", lost: true},
	{name: "a proxy", body: "new Proxy({}, { get() { for (;;) ; //!\n } }).x;"},
	{name: "a sort's comparator", body: "[3, 1, 2].sort(() => { for (;;) ; //!\n });"},
	{name: "replace's callback", body: "'aaa'.replace(/a/g, () => { for (;;) ; //!\n });"},
	{name: "a setImmediate storm", body: "const f = () => { work(); setImmediate(f); }; //!\n f();", kind: watch.Storm, lost: true},
	{name: "a BigInt's power", body: `(3n ** 9000000n).toString(); //!`, killed: true},
	{name: "pbkdf2Sync", body: `require('crypto').pbkdf2Sync('a', 'b', 1e9, 64, 'sha512'); //!`, killed: true},
	{name: "a typed array's sort", body: "const a = new Float64Array(3e6); for (;;) { for (let i = 0; i < a.length; i++) a[i] = -i; a.sort(); } //!", lost: true},
	{name: "code that keeps the debugger out", body: "process.on('SIGUSR1', () => {}); for (;;) ; //!"},
	{name: "eval", body: "eval('for (;;) ;'); //!"},
	{name: "a vm's loop", body: "require('vm').runInNewContext('for (;;) ;'); //!"},
}

// code is the function with the loop, and the line where it hangs.
func (l loop) code() (code, where string) {
	code = fmt.Sprintf(around, l.body)
	line := 1 + strings.Count(code[:strings.Index(code, "//!")], "\n")
	return code, fmt.Sprintf("f.js:%d:", line)
}

// Whatever the loop, the verdict names its kind, its request and its line, and
// everybody else's request of that process is answered, unless the code was
// native and its process had to be killed.
func TestLoops(t *testing.T) {
	c := startTestCell(t)
	for _, l := range loops {
		t.Run(l.name, func(t *testing.T) { c.tryLoop(t, l) })
	}
}

const testBlock = 200 // milliseconds

func (c *testCell) tryLoop(t *testing.T, l loop) {
	code, where := l.code()
	if l.kind == "" {
		l.kind = watch.Block
	}
	waitFor(t, func() bool { return c.ask(t, Request{Op: "status"}).Spares == 1 })
	req := Request{Function: "loop", Version: l.name, File: "f.js", Code: code, Limits: &cellctl.Limits{Block: testBlock, CPU: 2 * testBlock, Background: 10_000}}
	r := c.mustServe(t, req)
	client := c.connect(t, r.Socket)
	survivors := make(chan string, 5)
	for i := range cap(survivors) {
		go func() { survivors <- c.body(t, client, fmt.Sprintf("s%d", i), "/") }()
	}
	bad, err := client.Open(asked("bad", "/?guilty=1"), true)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	v := c.nextVerdict(t)
	took := time.Since(start)
	bad.Close()
	got := v.Verdict
	limit := testBlock * time.Millisecond
	switch l.kind {
	case watch.Stall:
		limit *= 3
	case watch.Storm:
		limit *= 2
	}
	t.Logf("%-30s %4d ms after the limit: %+v", l.name, (took - limit).Milliseconds(), *got)
	if v.Socket != r.Socket || got.Kind != l.kind || got.Killed != l.killed || got.Native != l.killed || got.Measured < limit.Milliseconds() {
		t.Errorf("the verdict is %+v of %s", *got, v.Socket)
	}
	if got.Request != "bad" {
		t.Errorf("the verdict blames %q", got.Request)
	}
	if !l.killed && !strings.HasPrefix(got.Where, where) && !l.lost {
		t.Errorf("it says %s, want %s", got.Where, where)
	}
	for range cap(survivors) {
		if s := <-survivors; !l.killed && s != `"survived"` {
			t.Errorf("another request got %q", s)
		}
	}
	e := c.nextEvent(t)
	if e.Socket != r.Socket || e.Exit.Verdict == nil || e.Exit.Verdict.Killed != l.killed {
		t.Errorf("the exit is %+v", e.Exit)
	}
	t.Log(e.Exit.Reason)
}

// asked is a GET with an id.
func asked(id, target string) frames.Request {
	r := post(target, nil)
	r.Method = []byte("GET")
	r.Fields = frames.AppendField([]byte{0}, 0, frames.FieldRequestID, []byte(id))
	deadline := binary.LittleEndian.AppendUint64(nil, uint64(time.Now().Add(time.Minute).UnixMilli()))
	r.Fields = frames.AppendField(r.Fields, 0, frames.FieldDeadline, deadline)
	return r
}

// body asks and returns the answer's body, or the error.
func (c *testCell) body(t *testing.T, client *frames.Client, id, target string) string {
	_, body, err := client.Do(t.Context(), asked(id, target), 1<<20)
	if err != nil {
		return err.Error()
	}
	return string(body)
}

func (c *testCell) nextVerdict(t *testing.T) Event {
	t.Helper()
	select {
	case e := <-c.verdicts:
		return e
	case <-time.After(20 * time.Second):
		t.Fatal("no verdict came")
		return Event{}
	}
}
