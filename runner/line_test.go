package runner

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"bulkhead/cluster"
)

// moments are times of a line, in milliseconds.
func moments(ms int) time.Time { return time.UnixMilli(int64(ms)) }

func lineOf(ms ...int) (l *line, calls []*call) {
	l = &line{}
	for _, at := range ms {
		c := &call{}
		calls = append(calls, c)
		l.add(&waiting{call: c, since: moments(at)}, 100)
	}
	return l, calls
}

func anyone(*call) bool { return true }

func TestBurstIsServedInOrderAndAStandingLineFromItsEnd(t *testing.T) {
	l, calls := lineOf(0, 10, 20, 490)
	if w := l.next(moments(50), anyone); w.call != calls[0] {
		t.Error("of a burst it is not the first")
	}
	if w := l.next(moments(499), func(c *call) bool { return c != calls[1] }); w.call != calls[2] {
		t.Error("who may not go is in the way of who may")
	}
	if w := l.next(moments(500), anyone); w.call != calls[3] {
		t.Error("of a line that stands it is not the last")
	}
	if w := l.next(moments(500), func(*call) bool { return false }); w != nil {
		t.Error("somebody goes who may not")
	}
	if w := l.next(moments(600), anyone); w.call != calls[1] || l.next(moments(600), anyone) != nil {
		t.Error("the rest is not the rest")
	}
	l.add(&waiting{call: calls[0], since: moments(600)}, 100)
	l.add(&waiting{call: calls[1], since: moments(601)}, 100)
	if w := l.next(moments(1099), anyone); w.call != calls[0] {
		t.Error("a line that was empty still counts as standing")
	}
}

func TestNobodyWaitsLongInAStandingLineOrForever(t *testing.T) {
	l, calls := lineOf(0, 100, 150)
	if late := l.late(moments(499)); len(late) != 0 {
		t.Errorf("%d are late", len(late))
	}
	late := l.late(moments(600)) // it stands: 500 ms each
	if len(late) != 2 || late[0].call != calls[0] || late[1].call != calls[1] {
		t.Errorf("%d are late", len(late))
	}
	if in, some := l.look(moments(600)); !some || in != 50*time.Millisecond {
		t.Errorf("looked at again in %v (%v)", in, some)
	}
	l, _ = lineOf(0)
	if in, _ := l.look(moments(0)); in != lineStanding {
		t.Errorf("looked at again in %v", in)
	}
	if _, some := (&line{}).look(moments(0)); some {
		t.Error("an empty line is looked at")
	}
}

func TestLineIsBounded(t *testing.T) {
	l, _ := lineOf(0, 0)
	if l.add(&waiting{}, 2) || !l.add(&waiting{}, 3) {
		t.Error("it takes more, or fewer, than may be in flight")
	}
	for range mostInLine {
		l.add(&waiting{}, 1e6)
	}
	if len(l.waiting) != mostInLine {
		t.Errorf("%d wait", len(l.waiting))
	}
}

// awaitQueued returns once so many requests wait in line.
func (r *rig) awaitQueued(n int) {
	r.t.Helper()
	for {
		r.runner.mu.Lock()
		got := len(r.runner.line.waiting)
		r.runner.mu.Unlock()
		if got == n {
			return
		}
		if r.t.Context().Err() != nil {
			r.t.Fatalf("%d wait, want %d", got, n)
		}
	}
}

func TestBurstBeyondConcurrencyWaitsAndIsServed(t *testing.T) {
	r := newRig(t, cluster.Limits{Concurrency: 2})
	r.deploy("f", `let n = 0, most = 0; module.exports = (cb) => { most = Math.max(most, ++n); setTimeout(() => { n--; cb(null, most); }, 20); };`)
	if o := <-r.ask("f", "GET", "x"); o.status != 200 { // its process is there
		t.Fatalf("got %+v", o)
	}
	asked := []<-chan outcome{}
	for range 4 {
		asked = append(asked, r.ask("f", "GET", "x"))
	}
	for _, a := range asked {
		if o := <-a; o.status != 200 || strings.TrimSpace(o.body) > "2" {
			t.Fatalf("got %+v", o)
		}
	}
}

func TestWorkIsNotBegunForWhoHasLeftOrWhoseTimeHasPassed(t *testing.T) {
	r := newRig(t, cluster.Limits{Concurrency: 1, Wall: cluster.Duration(time.Minute)})
	r.deploy("f", slow)
	r.deploy("g", `let begun = 0; module.exports = (cb) => cb(null, ++begun);`)
	if o := <-r.ask("g", "GET", "x"); strings.TrimSpace(o.body) != "1" {
		t.Fatalf("got %+v", o)
	}
	first := r.ask("f", "GET", "slow")
	r.awaitCalls("f", 1)
	left, leave := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		_, _, err := r.Do(left, r.request("g", r.token, "GET", ""), 1000)
		gone <- err
	}()
	r.awaitQueued(1)
	leave()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Fatalf("who left got %v", err)
	}
	r.awaitQueued(0)
	patient := r.token
	r.token = r.sign(m{"limits": m{"wall": "50ms"}})
	if o := <-r.ask("g", "GET", "x"); o.status != 504 || o.json.Limit != "limits.wall" || !strings.Contains(o.json.Message, "was not begun") {
		t.Fatalf("whose time passed in line: %+v", o)
	}
	r.token = patient
	r.reload(func() any { c := r.config; c.Limits.Concurrency = 2; return c }())
	if o := <-r.ask("f", "GET", "go"); o.status != 200 {
		t.Fatalf("got %+v", o)
	}
	if o := <-first; o.status != 200 {
		t.Fatalf("the first got %+v", o)
	}
	if o := <-r.ask("g", "GET", "x"); strings.TrimSpace(o.body) != "2" {
		t.Fatalf("work was begun before: %+v", o)
	}
}

func TestMoreThanMayWaitAreRefusedAtOnceAndToldWhy(t *testing.T) {
	r := newRig(t, cluster.Limits{Concurrency: 1})
	r.deploy("f", slow)
	first := r.ask("f", "GET", "slow")
	r.awaitCalls("f", 1)
	second := r.ask("f", "GET", "slow")
	r.awaitQueued(1)
	o := <-r.ask("f", "GET", "slow")
	if o.status != 429 || o.json.Error != "too_many_in_flight" || !strings.Contains(o.json.Message, "as many wait") {
		t.Fatalf("the third got %+v", o)
	}
	if o := <-second; o.status != 429 || !strings.Contains(o.json.Message, "this one has waited") {
		t.Fatalf("the second got %+v", o)
	}
	r.runner.mu.Lock()
	calls, held := r.runner.calls, r.runner.held
	r.runner.mu.Unlock()
	if calls != 1 {
		t.Error(fmt.Sprint(calls, " calls are left, ", held, " bytes held"))
	}
	select {
	case o := <-first:
		t.Fatalf("the first got %+v", o)
	default:
	}
}
