// Package watch holds the rules by which a function process is found to block
// its event loop, to wait without end, to burn CPU without finishing anything,
// or to burn it with nothing to do.
//
// The rules see samples: how much CPU the process's main thread has used, and
// what it answered to the last ping. They know no clock, no process and no
// channel, so what they decide follows from the samples alone. Slow work
// elsewhere, an outgoing request above all, burns no CPU and leaves the event
// loop free to answer: no rule touches it, however long it takes.
package watch

import "time"

// The kinds of breach (docs/cell.md).
const (
	Block = "block" // no answer, and CPU burned
	Stall = "stall" // no answer, and hardly any CPU
	Storm = "storm" // answers, but burns CPU without finishing a request
	Idle  = "idle"  // burns CPU with nothing in flight
)

const (
	minInterval = 10 * time.Millisecond
	maxInterval = 100 * time.Millisecond
	minLook     = 2 * time.Millisecond
	tooLate     = time.Second           // for a look: then we did not run, so nothing is certain
	slack       = 50 * time.Millisecond // by which a look may be late and its time still count
	stallFactor = 3
	sparse      = 10 // a tenth of the time is hardly any CPU
)

// Limits are what a process is held to; 0: not watched.
type Limits struct {
	Block      time.Duration // CPU in one turn of the event loop; three times that without CPU
	CPU        time.Duration // CPU without finishing a request
	Background time.Duration // work after the last answer
}

// Pong is the process's answer to the ping numbered N.
type Pong struct {
	N        int64
	Inflight int           // requests
	Done     int64         // requests that have ended since the start
	Counts   bool          // it says how many
	CPU      time.Duration // of the main thread when it had answered and was done with that
}

// Sample is one look at a process.
type Sample struct {
	At   time.Time
	CPU  time.Duration // of the main thread since its start
	Pong *Pong         // the last one since the sample before, if any came
	Turn string        // the request in whose synchronous turn it is; empty: none, or unknown
	Able bool          // it could run: what it waits for is a CPU, which others have
	// Queued is how long it has waited for a CPU since its start, until it last
	// got one; 0: unknown.
	Queued time.Duration
}

// Breach is a limit that was passed.
type Breach struct {
	Kind            string
	Limit, Measured time.Duration
	Took            time.Duration // of block: real time in which that was measured
}

// Next is what follows from a sample.
type Next struct {
	Ping   int64         // number of the ping to send; 0: none
	In     time.Duration // until the next look
	Exact  bool          // that look must not come later: a limit may be passed then
	Breach *Breach
}

// Watch holds one process to its limits. Its zero value watches nothing.
type Watch struct {
	Limits Limits

	at   time.Time     // of the last look
	in   time.Duration // that was planned until the next
	seen time.Duration // CPU up to which activity has been seen
	cpu  time.Duration // at the last look

	pings   int64         // sent
	out     bool          // the last one is unanswered
	pingCPU time.Duration // when it was sent, or another turn began
	pingAt  time.Time     // and when that was
	queued  time.Duration // at the last look
	waited  time.Duration // since then, neither running nor waiting for a CPU
	turn    string        // of the last look

	known      bool // what the last pong said holds
	inflight   int
	done       int64
	base       time.Duration // CPU from which burning without a result counts
	idle       time.Duration // wall time with nothing in flight
	background time.Duration // CPU when that reached Limits.Background
	overdue    bool          // it has
}

// Interval is how often a process is looked at.
func (l Limits) Interval() time.Duration {
	if l.Block == 0 {
		return maxInterval
	}
	return min(max(l.Block/10, minInterval), maxInterval)
}

// Look takes a sample and tells what follows.
//
// A look that comes far too late was not ours to make: the machine slept, or
// the container was frozen. Nothing that was measured across it counts.
func (w *Watch) Look(s Sample) Next {
	elapsed := s.At.Sub(w.at)
	if w.at.IsZero() || elapsed > w.in+tooLate {
		w.forget(s.CPU)
		return w.plan(s, Next{})
	}
	wall := min(elapsed, w.in+slack)
	if !s.Able { // else what it waits for now is told when it has got it
		w.waited += max(0, wall-(s.CPU-w.cpu)-(s.Queued-w.queued))
	}
	w.pass(wall, s.CPU)
	if s.Turn != w.turn { // many short turns in a row are not a long one
		w.turn, w.pingCPU, w.pingAt, w.waited = s.Turn, s.CPU, s.At, 0
	}
	var breach *Breach
	if s.Pong != nil && w.out && s.Pong.N == w.pings {
		w.out, w.seen = false, s.Pong.CPU
		breach = w.heard(*s.Pong)
	}
	if breach == nil && w.out {
		breach = w.silent(s)
	}
	var n Next
	if n.Breach = breach; breach == nil && !w.out && s.CPU > w.seen { // it has run, so it may be stuck now
		w.pings++
		w.out, w.pingCPU, w.pingAt, w.waited, w.seen = true, s.CPU, s.At, 0, s.CPU
		n.Ping = w.pings
	}
	return w.plan(s, n)
}

// Forget throws away what was measured: the process was interfered with.
func (w *Watch) Forget() { w.at = time.Time{} }

// forget begins anew. The process is asked whether it has run or not: it may be
// stuck since before.
func (w *Watch) forget(cpu time.Duration) {
	w.seen, w.cpu, w.base = -1, cpu, cpu
	w.out, w.known, w.overdue = false, false, false
	w.waited, w.idle = 0, 0
}

// plan sets when the next look is due: with a ping out, no later than a limit
// could be passed.
func (w *Watch) plan(s Sample, n Next) Next {
	n.In = w.Limits.Interval()
	if block := w.Limits.Block; w.out && block > 0 {
		first := block - (s.CPU - w.pingCPU)
		if stall := stallFactor*block - w.waited; stall > 0 {
			first = min(first, stall)
		}
		if first < n.In {
			n.In, n.Exact = max(first, minLook), true
		}
	}
	w.at, w.cpu, w.queued, w.in = s.At, s.CPU, s.Queued, n.In
	return n
}

// pass lets time go by. CPU that is used sparsely adds up to no storm: a
// connection that stays open for a day may do a lot of honest work.
func (w *Watch) pass(wall, cpu time.Duration) {
	if !w.known {
		return
	}
	if w.inflight > 0 {
		if burned := cpu - w.cpu; burned*sparse < wall {
			w.base += burned
		}
		return
	}
	w.idle += wall
	if !w.overdue && w.idle >= w.Limits.Background {
		w.overdue, w.background = true, cpu
	}
}

// silent judges a process that owes an answer.
func (w *Watch) silent(s Sample) *Breach {
	limit, burned, took := w.Limits.Block, s.CPU-w.pingCPU, s.At.Sub(w.pingAt)
	switch {
	case limit == 0:
	case burned >= limit:
		return &Breach{Kind: Block, Limit: limit, Measured: burned, Took: took}
	case w.waited >= stallFactor*limit && burned*sparse < w.waited:
		return &Breach{Kind: Stall, Limit: limit, Measured: w.waited, Took: took}
	}
	return nil
}

// heard judges a process by its answer.
func (w *Watch) heard(p Pong) *Breach {
	if fresh := !w.known || p.Done != w.done || (p.Inflight == 0) != (w.inflight == 0); fresh {
		w.known, w.base = true, p.CPU
		w.idle, w.overdue = 0, false
	}
	w.inflight, w.done = p.Inflight, p.Done
	burned, limit := p.CPU-w.base, w.Limits.CPU
	switch {
	case !p.Counts: // between two pings it may have finished a thousand
	case limit > 0 && burned >= limit && p.Inflight > 0:
		return &Breach{Kind: Storm, Limit: limit, Measured: burned}
	case limit > 0 && burned >= limit:
		return &Breach{Kind: Idle, Limit: limit, Measured: burned}
	case p.Inflight == 0 && w.overdue:
		return w.late(p.CPU)
	}
	return nil
}

// late judges work that goes on after the time for it has passed.
func (w *Watch) late(cpu time.Duration) *Breach {
	burned, limit := cpu-w.background, w.Limits.Block
	if limit == 0 || w.Limits.Background == 0 || burned < limit {
		return nil
	}
	return &Breach{Kind: Idle, Limit: limit, Measured: burned}
}
