package cell

import (
	"strings"
	"syscall"
	"testing"
)

const stuck = `module.exports = (ctx, cb) => { if (ctx.query.name) return cb(null, 'ok'); console.log('in'); for (;;); }`

// A process whose event loop is stuck is killed for the reason that the runner
// gives, and dead when the answer comes; nobody else is touched.
func TestKill(t *testing.T) {
	c := startTestCell(t)
	req := Request{Function: "stuck", Version: "v1", File: "f.js", Code: stuck}
	r := c.mustServe(t, req)
	other := c.mustServe(t, Request{Function: "stuck", Version: "v2", File: "f.js", Code: hello})
	go c.tryGet(r.Socket, "/")
	c.waitLog(t, func(m map[string]any) bool { return m["message"] == "in" })
	want := Exit{Signal: "SIGKILL", Reason: "killed: its event loop did not answer", Request: "r1"}
	if k := c.ask(t, Request{Op: "kill", Function: "stuck", Version: "v1", Reason: want.Reason}); k.Error != nil {
		t.Fatal(k.Error)
	}
	if err := syscall.Kill(r.PID, 0); err == nil {
		t.Error("the process lives after kill was answered")
	}
	if x := c.ask(t, Request{Op: "inquest", Socket: r.Socket}).Exit; x == nil || *x != want {
		t.Errorf("the inquest says %+v, want %+v", x, want)
	}
	if e := c.nextEvent(t); e.Socket != r.Socket || *e.Exit != want {
		t.Errorf("the event is %+v", e)
	}
	if got := c.get(t, other.Socket, "/?name=a"); !strings.HasSuffix(got, `{"hello":"a"}`) {
		t.Errorf("the other version answered %q", got)
	}
	if k := c.ask(t, Request{Op: "kill", Function: "stuck", Version: "v1", Reason: "again"}); k.Error != nil {
		t.Errorf("a kill of nobody gave %v", k.Error)
	}
}

// With a socket's name, whoever serves the version by now is spared.
func TestKillBySocket(t *testing.T) {
	c := startTestCell(t)
	req := Request{Function: "stuck", Version: "v1", File: "f.js", Code: stuck}
	first := c.mustServe(t, req)
	if k := c.ask(t, Request{Op: "kill", Function: "stuck", Version: "v1", Socket: first.Socket}); k.Error != nil {
		t.Fatal(k.Error)
	}
	second := c.mustServe(t, req)
	if k := c.ask(t, Request{Op: "kill", Function: "stuck", Version: "v1", Socket: first.Socket, Reason: "late"}); k.Error != nil {
		t.Fatal(k.Error)
	}
	if got := c.get(t, second.Socket, "/?name=a"); !strings.HasSuffix(got, `"ok"`) {
		t.Errorf("the second answered %q", got)
	}
}
