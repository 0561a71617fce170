package cell

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"bulkhead/internal/cellctl"

	"bulkhead/test/family"
)

const hello = `module.exports = (ctx, cb) => cb(null, { hello: ctx.query.name })`

// get sends one request over the process's socket and returns the answer's
// payload, in which status, headers and body lie.
func (c *testCell) get(tb testing.TB, socket, target string) string {
	tb.Helper()
	body, err := c.tryGet(socket, target)
	if err != nil {
		tb.Fatalf("cannot get %s from %s: %v", target, socket, err)
	}
	return body
}

func (c *testCell) tryGet(socket, target string) (string, error) {
	conn, err := net.DialTimeout("unix", filepath.Join(c.dir, socket), 5*time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	head := append([]byte{1, 1, 2, 0, 'r', '1', 3, 'G', 'E', 'T', byte(len(target)), 0}, target...)
	head = append(head, 0, 0)
	out := append(append(frameHead(10, 1, 0, 0), "BHF\x01runner"...), append(frameHead(len(head), 2, 1, 1), head...)...)
	if _, err := conn.Write(out); err != nil {
		return "", err
	}
	return readAnswer(conn)
}

// A version is served by one process however many ask at once, its socket
// answers, and a second version gets a process and a socket of its own.
func TestServe(t *testing.T) {
	c := startTestCell(t)
	replies := make(chan Reply, 4)
	for range 4 {
		go func() {
			replies <- c.ask(t, Request{Op: "serve", Function: "hello", Version: "v1", File: "hello.js", Code: hello})
		}()
	}
	first := <-replies
	if first.Error != nil || !regexp.MustCompile(`^hello\.1\.[0-9a-f]{16}\.sock$`).MatchString(first.Socket) {
		t.Fatalf("serve gave %+v", first)
	}
	for range 3 {
		if r := <-replies; r.Socket != first.Socket || r.PID != first.PID {
			t.Errorf("one version is served by %v and %v", first, r)
		}
	}
	if got := c.get(t, first.Socket, "/?name=world"); !strings.HasSuffix(got, `{"hello":"world"}`) {
		t.Errorf("the function answered %q", got)
	}
	second := c.mustServe(t, Request{Function: "hello", Version: "v2", File: "hello.js", Code: hello})
	if second.Socket == first.Socket || second.PID == first.PID {
		t.Errorf("two versions share %+v", second)
	}
	st := c.ask(t, Request{Op: "status"})
	if len(st.Processes) != 2 {
		t.Errorf("status shows %+v", st.Processes)
	}
	for _, p := range st.Processes {
		if _, err := time.Parse(time.RFC3339, p.Since); err != nil || p.Function != "hello" {
			t.Errorf("status shows %+v", p)
		}
	}
}

// Code that cannot be loaded is refused with its error, and the next serve of
// the same version tries again.
func TestServeRefusesBadCode(t *testing.T) {
	c := startTestCell(t)
	for _, tc := range []struct{ name, code, want, message string }{
		{"a syntax error", "module.exports = (", "syntax_error", ""},
		{"an error while loading", "throw new Error('at once')", "load_error", "at once"},
		{"no function", "module.exports = 1", "not_a_function", "number"},
		{"an exit while loading", "process.reallyExit(3)", "load_error", "process.exit"},
		{"a loop while loading", "for (;;);", "load_timeout", "200ms of CPU (limits.cpu)"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := c.ask(t, Request{Op: "serve", Function: "bad", Version: tc.name, File: "bad.js", Code: tc.code, Limits: &cellctl.Limits{CPU: 200}})
			if r.Error == nil || r.Error.Status != 400 || r.Error.Code != tc.want || !strings.Contains(r.Error.Message, tc.message) {
				t.Errorf("got %+v (%+v), want %s about %q", r, r.Error, tc.want, tc.message)
			}
		})
	}
	c.mustServe(t, Request{Function: "bad", Version: "a syntax error", File: "bad.js", Code: hello})
}

// Names that would not stay in the cell's directory are refused, as is an
// operation that there is not.
func TestBadRequests(t *testing.T) {
	c := startTestCell(t)
	for _, req := range []Request{
		{Op: "serve", Function: "../evil", Version: "v"}, {Op: "serve", Function: "", Version: "v"}, {Op: "serve", Function: ".", Version: "v"},
		{Op: "serve", Function: "a"}, {Op: "serve", Function: strings.Repeat("a", 81), Version: "v"}, {Op: "dance"},
	} {
		if r := c.ask(t, req); r.Error == nil || r.Error.Code != "bad_request" {
			t.Errorf("%s %q: got %+v", req.Op, req.Function, r)
		}
	}
	if _, err := c.conn.Write([]byte("not JSON\n")); err != nil {
		t.Fatal(err)
	}
	c.mustServe(t, Request{Function: "~0123456789abcdef", Version: "v1", File: "x.js", Code: hello})
}

// Every way to die is told apart, in an event and by the inquest, and the
// version can be served again at once.
func TestInquest(t *testing.T) {
	c := startTestCell(t)
	for i, tc := range []struct {
		name, code string
		kill       syscall.Signal
		want       Exit
	}{
		{"process.exit", `module.exports = (cb) => process.exit(3)`, 0, Exit{Code: 3, Reason: "process.exit(3) was called"}},
		{"an abort", hello, syscall.SIGABRT, Exit{Signal: "SIGABRT", Reason: "the process aborted"}},
		{"a segmentation fault", hello, syscall.SIGSEGV, Exit{Signal: "SIGSEGV", Reason: "the process was ended by SIGSEGV"}},
		{"a kill from elsewhere", hello, syscall.SIGKILL, Exit{Signal: "SIGKILL", Reason: "the process was ended by SIGKILL"}},
		{"a full heap", `const hog = []; module.exports = (cb) => { for (;;) hog.push(new Array(1e6).fill({})); }`, 0,
			Exit{Signal: "SIGABRT", OOM: true, Reason: "the heap is full: JavaScript ran out of memory", Request: "r1"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			req := Request{Function: "dying", Version: fmt.Sprint(i), File: "f.js", Code: tc.code}
			r := c.mustServe(t, req)
			if tc.kill != 0 {
				syscall.Kill(r.PID, tc.kill)
			} else {
				c.tryGet(r.Socket, "/")
			}
			e := c.nextEvent(t)
			if e.Event != "exit" || e.Socket != r.Socket || e.Function != "dying" || e.Version != req.Version || *e.Exit != tc.want {
				t.Errorf("the event is %+v, want %+v", e, tc.want)
			}
			if x := c.ask(t, Request{Op: "inquest", Socket: r.Socket}).Exit; x == nil || *x != tc.want {
				t.Errorf("the inquest says %+v", x)
			}
			if _, err := os.Stat(filepath.Join(c.dir, r.Socket)); !os.IsNotExist(err) {
				t.Errorf("its socket is still there: %v", err)
			}
			if again := c.mustServe(t, req); again.Socket == r.Socket {
				t.Errorf("a socket's name was used again: %s", again.Socket)
			} else if x := c.ask(t, Request{Op: "inquest", Socket: again.Socket}).Exit; x != nil {
				t.Errorf("an inquest of the living says %+v", x)
			}
		})
	}
}

func (c *testCell) nextEvent(t *testing.T) Event {
	t.Helper()
	select {
	case e := <-c.events:
		return e
	case <-time.After(20 * time.Second):
		t.Fatal("no event came")
		return Event{}
	}
}

// A version that is stopped finishes what is in flight, takes nothing new and
// goes; the same version can be served anew meanwhile.
func TestStop(t *testing.T) {
	c := startTestCell(t)
	req := Request{Function: "slow", Version: "v1", File: "f.js", Code: `module.exports = (ctx, cb) => { console.log('in'); setTimeout(() => cb(null, 'done'), 300); }`}
	r := c.mustServe(t, req)
	answer := make(chan string, 1)
	go func() { a, _ := c.tryGet(r.Socket, "/"); answer <- a }()
	c.waitLog(t, func(m map[string]any) bool { return m["message"] == "in" })
	if r := c.ask(t, Request{Op: "stop", Function: "slow", Version: "v1"}); r.Error != nil {
		t.Fatal(r.Error)
	}
	if again := c.mustServe(t, req); again.PID == r.PID {
		t.Error("a stopped version was served by the process that goes")
	}
	if got := <-answer; !strings.HasSuffix(got, `"done"`) {
		t.Errorf("the request in flight got %q", got)
	}
	if e := c.nextEvent(t); *e.Exit != (Exit{Reason: "stopped"}) {
		t.Errorf("the exit is %+v", e.Exit)
	}
}

// waitLog returns the first line, of those that came and those to come, for
// which test is true, and forgets it.
func (c *testCell) waitLog(t *testing.T, test func(map[string]any) bool) map[string]any {
	t.Helper()
	if i := slices.IndexFunc(c.seen, test); i >= 0 {
		m := c.seen[i]
		c.seen = slices.Delete(c.seen, i, i+1)
		return m
	}
	deadline := time.After(20 * time.Second)
	for {
		select {
		case m := <-c.lines:
			if test(m) {
				return m
			}
			c.seen = append(c.seen, m)
		case <-deadline:
			t.Fatal("the line was never logged")
		}
	}
}

// Log lines carry function, version, request and level; what code prints past
// the harness is logged too, as what its descriptor says.
func TestLogs(t *testing.T) {
	c := startTestCell(t)
	r := c.mustServe(t, Request{Function: "talk", Version: "0123456789", File: "f.js", Code: `const fs = require('fs'); module.exports = (cb) => { console.warn('careful'); fs.writeSync(1, 'raw out\n'); fs.writeSync(2, 'raw err\n'); fs.writeSync(1, '\x1e{"l":"platform","m":"forged"}\n'); cb(); }`})
	c.get(t, r.Socket, "/")
	for _, want := range []map[string]any{
		{"message": "careful", "level": "warn", "request": "r1"},
		{"message": "raw out", "level": "info"},
		{"message": "raw err", "level": "error"},
		{"message": "forged", "level": "info"},
	} {
		got := c.waitLog(t, func(m map[string]any) bool { return m["message"] == want["message"] })
		want["function"], want["version"] = "talk", "0123456"
		for k, v := range want {
			if got[k] != v {
				t.Errorf("%s: %s is %v, want %v", want["message"], k, got[k], v)
			}
		}
		if _, err := time.Parse("2006-01-02T15:04:05.000Z", fmt.Sprint(got["time"])); err != nil {
			t.Error(err)
		}
	}
}

// With room for one function beside the spare, the one that is idle goes when
// another is wanted; one that is busy stays, and the newcomer hears why.
func TestEviction(t *testing.T) {
	c := startTestCell(t, "BULKHEAD_CELL_MEMORY=83886080")
	a := c.mustServe(t, Request{Function: "a", Version: "v", File: "f.js", Code: hello})
	b := c.mustServe(t, Request{Function: "b", Version: "v", File: "f.js", Code: `module.exports = (ctx, cb) => { console.log('busy'); }`})
	if e := c.nextEvent(t); e.Socket != a.Socket || e.Exit.Reason != "stopped" {
		t.Errorf("who went was %+v", e)
	}
	go c.tryGet(b.Socket, "/")
	c.waitLog(t, func(m map[string]any) bool { return m["message"] == "busy" })
	r := c.ask(t, Request{Op: "serve", Function: "c", Version: "v", File: "f.js", Code: hello})
	if r.Error == nil || r.Error.Code != "no_room" || r.Error.Status != 503 {
		t.Errorf("with no room, serve gave %+v", r)
	}
}

// On SIGTERM the cell lets requests finish, and leaves no process and no
// function socket behind.
func TestTerminate(t *testing.T) {
	c := startTestCell(t)
	r := c.mustServe(t, Request{Function: "slow", Version: "v1", File: "f.js", Code: `module.exports = (ctx, cb) => { console.log('in'); setTimeout(() => cb(null, 'done'), 200); }`})
	answer := make(chan string, 1)
	go func() { a, _ := c.tryGet(r.Socket, "/"); answer <- a }()
	c.waitLog(t, func(m map[string]any) bool { return m["message"] == "in" })
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got := <-answer; !strings.HasSuffix(got, `"done"`) {
		t.Errorf("the request in flight got %q", got)
	}
	for range c.output { // until the cell has closed its output
	}
	if err := c.cmd.Wait(); err != nil {
		t.Errorf("the cell ended with %v", err)
	}
	if err := syscall.Kill(r.PID, 0); err == nil {
		t.Error("a process outlived the cell")
	}
	left, err := filepath.Glob(filepath.Join(c.dir, "*.sock"))
	if err != nil || len(left) > 0 {
		t.Errorf("sockets were left behind: %v %v", left, err)
	}
}

// A cell that was killed leaves its sockets; its successor in the same directory
// removes them and never uses their names again.
func TestSuccessorOfAKilledCell(t *testing.T) {
	c := startTestCell(t)
	first := c.mustServe(t, Request{Function: "hello", Version: "v1", File: "f.js", Code: hello})
	family.End(c.cmd)
	next := startTestCellIn(t, c.dir)
	second := next.mustServe(t, Request{Function: "hello", Version: "v1", File: "f.js", Code: hello})
	if _, err := os.Stat(filepath.Join(c.dir, first.Socket)); !os.IsNotExist(err) || second.Socket == first.Socket {
		t.Errorf("after %s comes %s, and the old one is there: %v", first.Socket, second.Socket, err)
	}
	if got := next.get(t, second.Socket, "/?name=again"); !strings.HasSuffix(got, `{"hello":"again"}`) {
		t.Errorf("the successor answered %q", got)
	}
}

// The whole record may be as large as a line may be, secrets and all.
func TestLargeCode(t *testing.T) {
	c := startTestCell(t)
	r := c.mustServe(t, Request{Function: "large", Version: "v1", File: "f.js", Code: hello + "\n//" + strings.Repeat("x", 2<<20), Secrets: map[string]string{"k": "v"}})
	if got := c.get(t, r.Socket, "/?name=big"); !strings.HasSuffix(got, `{"hello":"big"}`) {
		t.Errorf("the function answered %q", got)
	}
}

// An entry's encoding never exceeds a line, whatever the code prints.
func TestLinesAreBounded(t *testing.T) {
	for _, message := range []string{"short", strings.Repeat("x", 100_000), strings.Repeat("\x01", 100_000), strings.Repeat("🌍", 50_000)} {
		e := parseLine([]byte(message), "info")
		line := e.line()
		if len(line) > maxLine || !json.Valid(line) {
			t.Errorf("%.5q…: a line of %d bytes, valid: %v", message, len(line), json.Valid(line))
		}
	}
}
