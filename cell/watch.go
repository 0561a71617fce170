package cell

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"bulkhead/cell/watch"
	"bulkhead/internal/cellctl"
)

// maxLimit is the longest limit, in milliseconds.
const maxLimit = 24 * 60 * 60 * 1000

// ward is a process that the watchdog looks at. Only the watchdog's goroutine
// touches it, but for held.
type ward struct {
	p    *process
	rule watch.Watch
	cpu  time.Duration // at the last look
	turn string        // then, and so for as long as cpu is the same
	due  time.Time
	held atomic.Bool // it is being broken into: not to be looked at
	torn atomic.Bool // it was, since the last look
}

// watchdog looks at every process that has code, in one goroutine that sleeps
// while there is none.
type watchdog struct {
	c     *Cell
	start time.Time
	fresh chan *process
	wards map[*process]*ward
}

func newWatchdog(c *Cell) *watchdog {
	return &watchdog{c: c, start: time.Now(), fresh: make(chan *process, 64), wards: map[*process]*ward{}}
}

// guard has p watched from now on, if it has limits.
func (d *watchdog) guard(p *process) {
	if p.limits != (watch.Limits{}) {
		d.fresh <- p
	}
}

// run looks until ctx is cancelled.
func (d *watchdog) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case p := <-d.fresh:
			d.take(p)
		case <-timer.C:
		}
		timer.Reset(d.round())
	}
}

func (d *watchdog) take(p *process) {
	if _, _, err := p.cpuTime(); err != nil {
		d.c.log.log(entry{Function: p.function, Version: short(p.version), Level: "platform", Message: "the process is not watched: its CPU time can't be read: " + err.Error()})
		return
	}
	d.wards[p] = &ward{p: p, rule: watch.Watch{Limits: p.limits}, due: time.Now()}
}

// round looks at whoever is due and returns the time until the next is.
func (d *watchdog) round() time.Duration {
	next := time.Hour
	for p, w := range d.wards {
		now := time.Now()
		if !w.due.After(now) && !d.look(w, now) {
			delete(d.wards, p)
			continue
		}
		next = min(next, w.due.Sub(now))
	}
	return max(next, 0)
}

// look takes one sample and does what the rules say. False: the process is
// gone.
func (d *watchdog) look(w *ward, now time.Time) bool {
	if w.held.Load() {
		w.due = now.Add(w.rule.Limits.Interval())
		return !w.p.isGone()
	}
	if w.torn.Swap(false) {
		w.rule.Forget()
	}
	cpu, queued, err := w.p.cpuTime()
	if err != nil {
		return false
	}
	if cpu != w.cpu { // else it has not run
		w.turned(w.p.mark.read())
		w.cpu = cpu
	}
	s := watch.Sample{At: now, CPU: cpu, Queued: queued, Turn: w.turn}
	select {
	case pong := <-w.p.pongs:
		s.Pong = &pong
	default:
		s.Able = w.p.able()
	}
	n := w.rule.Look(s)
	w.due = d.align(now, n)
	if n.Ping != 0 {
		w.p.ping(n.Ping)
	}
	if n.Breach != nil {
		w.held.Store(true)
		turn := w.turn
		go func() {
			d.c.enforce(w.p, *n.Breach, turn)
			w.torn.Store(true)
			w.held.Store(false)
		}()
	}
	return true
}

// align puts a look that need not be exact on a grid that all processes share,
// so that a container full of idle ones wakes up once for all of them.
func (d *watchdog) align(now time.Time, n watch.Next) time.Time {
	if n.Exact {
		return now.Add(n.In)
	}
	return now.Add(n.In - now.Sub(d.start)%n.In)
}

// cpuTime reads how long the process's main thread has run, and how long it
// had to wait for a CPU until it last ran (the first two numbers of
// proc_pid_schedstat, in nanoseconds).
func (p *process) cpuTime() (ran, queued time.Duration, err error) {
	var b [64]byte
	n, err := p.stat.ReadAt(b[:], 0)
	if n == 0 {
		return 0, 0, err
	}
	_, err = fmt.Sscan(string(b[:n]), (*int64)(&ran), (*int64)(&queued))
	return ran, queued, err
}

// turned notes whose turn it is now, and of a long one who is to be named when
// the kernel ends the process without a word.
func (w *ward) turned(turn string) {
	steady := ""
	if turn == w.turn {
		steady = turn
	}
	w.p.steady.Store(&steady)
	w.turn = turn
}

// able reports whether the process's main thread runs, or would if it had a
// CPU: the state in proc_pid_stat, behind the name in parentheses.
func (p *process) able() bool {
	var b [128]byte
	n, _ := p.sched.ReadAt(b[:], 0)
	i := bytes.LastIndexByte(b[:n], ')')
	return i >= 0 && i+2 < n && b[i+2] == 'R'
}

// isGone tells whether the process has ended.
func (p *process) isGone() bool {
	select {
	case <-p.gone:
		return true
	default:
		return false
	}
}

// watchLimits are the limits that a serve asks for.
func watchLimits(l *cellctl.Limits) watch.Limits {
	if l == nil {
		return watch.Limits{}
	}
	ms := func(n int64) time.Duration { return time.Duration(min(max(n, 0), maxLimit)) * time.Millisecond }
	return watch.Limits{Block: ms(l.Block), CPU: ms(l.CPU), Background: ms(l.Background)}
}
