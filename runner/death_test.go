package runner

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"bulkhead/cluster"
	"bulkhead/internal/cellctl"
	"bulkhead/internal/frames"
)

// outcome is the platform's answer, or the function's.
type outcome struct {
	status int
	body   string
	json   struct {
		Error, Message, Limit, Value, Measured, Where string
	}
	err error
}

// ask sends a request whose path ends in a word, and the word as its id.
func (r *rig) ask(function, method, word string) <-chan outcome {
	req := r.request(function, r.token, method, "")
	req.Fields = frames.AppendField(append([]byte{}, frames.NoFields...), 0, frames.FieldRequestID, []byte(word))
	req.Fields = frames.AppendField(req.Fields, 0, frames.FieldFunction, []byte(function))
	req.Target = []byte("/acme/" + function + "/" + word)
	done := make(chan outcome, 1)
	go func() {
		var o outcome
		var body []byte
		o.status, body, o.err = r.Do(r.t.Context(), req, 1<<20)
		o.body = string(body)
		json.Unmarshal(body, &o.json)
		done <- o
	}()
	return done
}

// awaitCalls returns once a function's process has so many requests.
func (r *rig) awaitCalls(function string, n int) {
	r.t.Helper()
	for {
		r.runner.mu.Lock()
		p := r.runner.processes[function]
		got := -1
		if p != nil {
			got = len(p.calls)
		}
		r.runner.mu.Unlock()
		if got == n {
			return
		}
		if r.t.Context().Err() != nil {
			r.t.Fatalf("%d requests are with the process, want %d", got, n)
		}
	}
}

// signal sends a signal to a function's process, as its own fault would.
func (r *rig) signal(function string, sig syscall.Signal) {
	r.t.Helper()
	a, err := r.runner.cell.ask(r.t.Context(), cellctl.Request{Op: "status"})
	if err != nil {
		r.t.Fatal(err)
	}
	for _, p := range a.Processes {
		if p.Function == function {
			syscall.Kill(p.PID, sig)
			return
		}
	}
	r.t.Fatalf("no process serves %s", function)
}

// slow is answered when go is called, or at once in a process after the first.
const slow = `
module.exports = (ctx, req, res) => {
  const word = req.url.split('/').pop();
  if (word === 'quick' || word === 'go') { globalThis.go?.forEach((f) => f()); res.end('quick'); return; }
  if (word === 'exit') process.exit(3);
  if (word === 'loop') for (;;);
  if (word === 'native') require('node:crypto').pbkdf2Sync('p', 's', 1e9, 64, 'sha512');
  if (word === 'heap') { const a = []; for (;;) a.push(new Array(1e5).fill(a.length)); }
  if (word === 'body') res.write('begun');
  (globalThis.go ??= []).push(() => res.end('slow'));
};
`

func TestLoopIsStoppedAndNamedWhileTheOthersAreServed(t *testing.T) {
	r := newRig(t, cluster.Limits{Block: cluster.Duration(200 * time.Millisecond)})
	r.deploy("f", slow)
	innocent := r.ask("f", "POST", "slow")
	r.awaitCalls("f", 1)
	guilty := <-r.ask("f", "GET", "loop")
	if guilty.status != 508 || guilty.json.Error != "block_limit" || guilty.json.Limit != "limits.block" || guilty.json.Value != "200ms" || !strings.HasPrefix(guilty.json.Where, "f.js:") || guilty.json.Measured == "" {
		t.Fatalf("got %+v", guilty)
	}
	if o := <-r.ask("f", "GET", "quick"); o.status != 200 {
		t.Fatalf("the next request: %+v", o)
	}
	r.signal("f", 0) // the first process is still there for its other request
	select {
	case o := <-innocent:
		t.Fatalf("the innocent one: %+v", o)
	default:
	}
}

// queued waits in the microtask queue behind a loop, in the first process; the
// next finds the file and answers.
const queued = `
const fs = require('node:fs');
let open;
const gate = new Promise((resolve) => { open = resolve; });
module.exports = async (ctx) => {
  const mark = ctx.query.mark;
  if (mark === undefined) {
    Promise.resolve().then(() => { for (;;); });
    open();
    return gate;
  }
  if (fs.existsSync(mark)) return 'asked again';
  fs.writeFileSync(mark, '');
  await gate;
  return 'answered';
};
`

func TestWhoWaitedBehindALoopInTheSameQueueIsAskedAgain(t *testing.T) {
	r := newRig(t, cluster.Limits{Block: cluster.Duration(200 * time.Millisecond)})
	r.deploy("f", queued)
	stranded := r.ask("f", "GET", "wait?mark="+filepath.Join(t.TempDir(), "mark"))
	r.awaitCalls("f", 1)
	if guilty := <-r.ask("f", "GET", "loop"); guilty.status != 508 {
		t.Fatalf("the loop: %+v", guilty)
	}
	if o := <-stranded; o.status != 200 || o.body != `"asked again"` {
		t.Errorf("who waited behind it: %+v", o)
	}
}

func TestNativeCallEndsItsProcessAndTheInnocentAreAskedAgain(t *testing.T) {
	r := newRig(t, cluster.Limits{Block: cluster.Duration(200 * time.Millisecond)})
	r.deploy("f", slow)
	req := r.request("f", r.token, "GET", "")
	req.Target = []byte("/acme/f/body")
	begun, err := r.Open(req, true)
	if err != nil {
		t.Fatal(err)
	}
	defer begun.Close()
	if chunk, err := begun.Next(t.Context()); string(chunk) != "begun" {
		t.Fatalf("got %q %v", chunk, err)
	}
	safe, unsafe := r.ask("f", "GET", "slow"), r.ask("f", "POST", "slow2")
	r.awaitCalls("f", 3)
	if o := <-r.ask("f", "GET", "native"); o.status != 508 || !strings.Contains(o.json.Message, "native call") {
		t.Fatalf("the guilty one: %+v", o)
	}
	if o := <-unsafe; o.status != 503 || o.json.Error != "process_ended" {
		t.Errorf("the one that may not be asked twice: %+v", o)
	}
	if chunk, err := begun.Next(t.Context()); err == nil {
		t.Errorf("the one whose answer had begun goes on with %q", chunk)
	}
	r.awaitCalls("f", 1)
	if o := <-r.ask("f", "GET", "go"); o.status != 200 {
		t.Fatalf("the next request: %+v", o)
	}
	if o := <-safe; o.status != 200 || o.body != "slow" {
		t.Errorf("the one that was asked again: %+v", o)
	}
}

func TestCrashesAreLaidToTheOnlyRequestInFlight(t *testing.T) {
	r := newRig(t, cluster.Limits{})
	r.deploy("f", slow)
	only := r.ask("f", "GET", "slow")
	r.awaitCalls("f", 1)
	r.signal("f", syscall.SIGSEGV)
	if o := <-only; o.status != 500 || o.json.Error != "process_crashed" || !strings.Contains(o.json.Message, "SIGSEGV") {
		t.Fatalf("got %+v", o)
	}
	if o := <-r.ask("f", "GET", "heap"); o.status != 500 || o.json.Error != "out_of_memory" {
		t.Fatalf("got %+v", o)
	}
	if o := <-r.ask("f", "GET", "quick"); o.status != 200 {
		t.Fatalf("the next request: %+v", o)
	}
}

func TestNobodyIsAccusedWithoutEvidence(t *testing.T) {
	r := newRig(t, cluster.Limits{})
	r.deploy("f", slow)
	one, two, post := r.ask("f", "GET", "one"), r.ask("f", "GET", "two"), r.ask("f", "POST", "post")
	r.awaitCalls("f", 3)
	r.signal("f", syscall.SIGSEGV)
	if o := <-post; o.status != 503 || o.json.Error != "process_ended" {
		t.Fatalf("got %+v", o)
	}
	r.awaitCalls("f", 2)
	r.signal("f", syscall.SIGSEGV)
	for _, c := range []<-chan outcome{one, two} {
		if o := <-c; o.status != 503 || o.json.Error != "process_ended" || !strings.Contains(o.json.Message, "two processes") {
			t.Fatalf("got %+v", o)
		}
	}
	outside := r.ask("f", "POST", "slow")
	r.awaitCalls("f", 1)
	r.signal("f", syscall.SIGKILL) // which code can't send itself
	if o := <-outside; o.status != 503 || o.json.Error != "process_ended" {
		t.Fatalf("got %+v", o)
	}
}

func TestCrashLoopRestsTheFunctionAndNobodyElse(t *testing.T) {
	r := newRig(t, cluster.Limits{})
	r.deploy("f", slow)
	r.deploy("g", slow)
	for i := range 3 {
		o := r.ask("f", "GET", fmt.Sprint("w", i))
		r.awaitCalls("f", 1)
		r.signal("f", syscall.SIGSEGV)
		<-o
	}
	if o := <-r.ask("f", "GET", "quick"); o.status != 503 || o.json.Error != "function_crashing" || !strings.Contains(o.json.Message, "SIGSEGV") {
		t.Fatalf("got %+v", o)
	}
	if o := <-r.ask("g", "GET", "quick"); o.status != 200 {
		t.Fatalf("another function: %+v", o)
	}
	r.deploy("f", slow+"// mended")
	if o := <-r.ask("f", "GET", "quick"); o.status != 200 {
		t.Fatalf("a new version: %+v", o)
	}
}

func TestWhoComesAfterAnExitGetsAProcessOfItsOwn(t *testing.T) {
	r := newRig(t, cluster.Limits{})
	r.deploy("f", slow)
	for i := range 5 {
		innocent := r.ask("f", "POST", "slow")
		r.awaitCalls("f", 1)
		if o := <-r.ask("f", "GET", "exit"); o.status != 500 || !strings.Contains(o.json.Message, "process.exit(3)") {
			t.Fatalf("round %d: the one that exits: %+v", i, o)
		}
		if o := <-r.ask("f", "GET", "quick"); o.status != 200 {
			t.Fatalf("round %d: the next request: %+v", i, o)
		}
		select {
		case o := <-innocent:
			t.Fatalf("round %d: the one in flight: %+v", i, o)
		default:
		}
	}
}

func TestCrashesBackOff(t *testing.T) {
	at := func(seconds float64) time.Time { return now.Add(time.Duration(seconds * float64(time.Second))) }
	var k crashes
	die := func(seconds float64) { k.died(at(seconds-0.1), at(seconds), "x") }
	check := func(seconds float64, closed bool, retry time.Duration) {
		t.Helper()
		if d, c := k.closed(at(seconds)); c != closed || d != retry {
			t.Fatalf("after %vs: closed %v for %v, want %v for %v", seconds, c, d, closed, retry)
		}
	}
	die(0)
	die(6)
	die(11) // the first is too long ago
	check(11, false, 0)
	die(12)
	check(12.5, true, 500*time.Millisecond)
	check(13, false, 0)
	k.probing = at(13)
	check(13, true, time.Second)
	check(14, false, 0) // a probe that takes long holds up nobody for longer
	die(13.5)
	check(13.5, true, 2*time.Second)
	check(15.5, false, 0)
	k.probing = at(15.5)
	k.passed()
	check(15.6, false, 0)
	die(20)
	check(20, true, 4*time.Second)
	for i := range 8 {
		die(30 + float64(i))
	}
	check(37, true, time.Minute)
	k.died(at(70), at(101), "x") // it lived for 31 s
	check(101, false, 0)
}
