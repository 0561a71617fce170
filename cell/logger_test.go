package cell

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// drained is the messages of what the logger keeps, as a reader gets them.
func drained(l *logger) []string {
	k := &conn{}
	l.assign(k)
	l.mu.Lock()
	l.closed = true // there will be no more, so next does not wait for it
	l.mu.Unlock()
	var all []string
	for batch := l.next(k); batch != nil; batch = l.next(k) {
		for line := range bytes.Lines(batch) {
			var e Event
			if json.Unmarshal(line, &e) != nil || e.Event != "log" {
				e.Message = "broken: " + string(line)
			}
			all = append(all, e.Message)
		}
	}
	return all
}

// A flood is cut to its function's rate, the first line after it says how much
// is missing, and other functions and the cell's own words are not touched.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := newLogger(&out, time.Now)
		burst := int(perFunction.lineBurst)
		for range 10 * burst {
			l.log(entry{Level: "info", Function: "noisy", Message: "f"})
		}
		l.log(entry{Level: "info", Function: "quiet", Message: "heard"})
		l.platform("own words")
		time.Sleep(10 * time.Second) // the bubble's time: none passes
		l.log(entry{Level: "info", Function: "noisy", Message: "after"})
		got := drained(l)
		l.close()
		if len(got) != burst+4 || got[burst] != "heard" || got[burst+1] != "own words" || got[burst+3] != "after" {
			t.Fatalf("%d lines, in the end %q", len(got), got[max(0, len(got)-4):])
		}
		if want := fmt.Sprintf("%d lines were dropped here", 9*burst); !strings.HasPrefix(got[burst+2], want) {
			t.Errorf("the gap says %q, want %s", got[burst+2], want)
		}
		if n := strings.Count(out.String(), "\n"); n != 1 || !strings.Contains(out.String(), "own words") {
			t.Errorf("the cell itself printed %d lines: %s", n, out.String())
		}
	})
}

// What nobody reads is kept up to a bound; then the oldest lines go, and who
// reads at last is told how many.
func TestNobodyReads(t *testing.T) {
	l := newLogger(io.Discard, time.Now)
	text := strings.Repeat("x", 10_000)
	const n = 100
	for i := range n {
		l.log(entry{Function: fmt.Sprint(i), Level: "info", Message: text})
	}
	got := drained(l)
	l.close()
	kept := len(got) - 1
	if kept*len(text) > logKept || (kept+2)*len(text) < logKept {
		t.Errorf("%d lines of %d bytes are kept", kept, len(text))
	}
	if want := fmt.Sprintf("%d lines were dropped here", n-kept); !strings.HasPrefix(got[0], want) {
		t.Errorf("the first says %.80q, want %s", got[0], want)
	}
}

// The connection that asked last gets the log, from where the one before it
// stopped; what was printed while there was none comes first.
func TestLogsGoToWhoAskedLast(t *testing.T) {
	c := startTestCell(t)
	r := c.mustServe(t, Request{Function: "talk", Version: "v1", File: "f.js", Code: `module.exports = (ctx, cb) => { console.log(ctx.query.say); cb(); }`})
	say := func(word string) func(map[string]any) bool {
		c.get(t, r.Socket, "/?say="+word)
		return func(m map[string]any) bool { return m["message"] == word && m["function"] == "talk" }
	}
	c.waitLog(t, say("first"))
	second := &testCell{dir: c.dir, lines: make(chan map[string]any, 1000), events: make(chan Event, 16), verdicts: make(chan Event, 16), reply: map[int64]chan Reply{}}
	second.dial(t)
	second.waitLog(t, say("second"))
	second.conn.Close()
	alone := say("alone")
	c.ask(t, Request{Op: "status"})
	if len(c.lines) > 0 {
		t.Errorf("who did not ask last got %v", <-c.lines)
	}
	c.ask(t, Request{Op: "logs"})
	c.waitLog(t, alone)
}

// A reader that does not read holds up nobody, and when it reads again it is
// told what it missed.
func TestSlowReader(t *testing.T) {
	c := startTestCell(t)
	r := c.mustServe(t, Request{Function: "flood", Version: "v1", File: "f.js", Code: `const s = 'x'.repeat(8000); module.exports = (ctx, cb) => { for (let i = 0; i < 100; i++) console.log(s); cb(null, 'done'); }`})
	slow, err := net.Dial("unix", filepath.Join(c.dir, ControlSocket))
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	if _, err := slow.Write([]byte(`{"id":1,"op":"logs"}` + "\n")); err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(slow)
	var reply Reply
	if err := d.Decode(&reply); err != nil {
		t.Fatal(err)
	}
	if got := c.get(t, r.Socket, "/"); !strings.HasSuffix(got, `"done"`) {
		t.Errorf("the code got %q", got)
	}
	c.mustServe(t, Request{Function: "other", Version: "v1", File: "f.js", Code: hello})
	for {
		var e Event
		if err := d.Decode(&e); err != nil {
			t.Fatalf("no line tells of a gap: %v", err)
		}
		if strings.Contains(e.Message, "were not read in time") {
			return
		}
	}
}

// What the host has to say to a tenant stands in the log as the platform's.
func TestTell(t *testing.T) {
	c := startTestCell(t)
	what := "egress: more than 100 new connections a second"
	if r := c.ask(t, Request{Op: "tell", Message: what}); r.Error != nil {
		t.Fatal(r.Error)
	}
	c.waitLog(t, func(m map[string]any) bool { return m["message"] == what && m["level"] == "platform" })
}

// With another size of the container come other limits, and a spare of another
// heap; who serves stays.
func TestLimit(t *testing.T) {
	c := startTestCell(t, "BULKHEAD_CELL_MEMORY=83886080")
	heap := `module.exports = (cb) => cb(null, 'MiB:' + Math.round(require('v8').getHeapStatistics().heap_size_limit / 1048576))`
	heapOf := func(function string) int {
		r := c.mustServe(t, Request{Function: function, Version: "v", File: "f.js", Code: heap})
		_, size, _ := strings.Cut(c.get(t, r.Socket, "/"), "MiB:")
		n, err := strconv.Atoi(strings.Trim(size, `"`))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	small := heapOf("a")
	if r := c.ask(t, Request{Op: "limit", Memory: 256 * mib}); r.Error != nil {
		t.Fatal(r.Error)
	}
	want := LimitsFor(256 * mib)
	c.waitLog(t, func(m map[string]any) bool {
		return m["message"] == fmt.Sprintf("the container's memory is 256 MiB now: %d processes of %d MiB heap at most", want.Processes, want.HeapMiB)
	})
	for _, f := range []string{"b", "c", "d"} {
		if n := heapOf(f); n < want.HeapMiB || small >= want.HeapMiB {
			t.Errorf("%s has a heap of %d MiB, before the limit it was %d", f, n, small)
		}
	}
	if st := c.ask(t, Request{Op: "status"}); len(st.Processes) != 4 {
		t.Errorf("with room for them, %d functions are served", len(st.Processes))
	}
	if r := c.ask(t, Request{Op: "limit"}); r.Error == nil {
		t.Error("a limit of nothing was taken")
	}
}
