package watch

import (
	"testing"
	"time"
)

const (
	ms = time.Millisecond
	s  = time.Second
)

var limits = Limits{Block: 1 * s, CPU: 10 * s, Background: 30 * s}

// phase is a stretch of a process's life.
type phase struct {
	lasts    time.Duration
	share    float64 // of a CPU that its main thread uses
	deaf     bool    // its event loop does not answer
	mute     bool    // it does not say how many requests it has finished
	inflight int
	rate     float64       // requests that it finishes in a second
	late     time.Duration // the look at the phase's end comes so much later, and the process was frozen
	able     bool          // it could run whenever it doesn't
	queues   float64       // share of the time in which it waited for a CPU, though no look finds it so
	turns    bool          // each look finds another request's turn
	lag      time.Duration // every look comes so much later
}

// found is what the rules said, and when.
type found struct {
	kind string
	at   time.Duration
}

// live drives the rules through a life, as the cell does.
func live(w *Watch, life []phase) (found, *Breach) {
	now := time.Unix(0, 0)
	var cpu, done, queued float64
	var pending int64
	n := w.Look(Sample{At: now})
	for _, p := range life {
		for left := p.lasts; left > 0; {
			step := min(n.In+p.lag, left)
			left -= step
			now, cpu, done = now.Add(step), cpu+p.share*step.Seconds(), done+p.rate*step.Seconds()
			queued += p.queues * step.Seconds()
			if left == 0 {
				now = now.Add(p.late)
			}
			sample := Sample{At: now, CPU: time.Duration(cpu * float64(s)), Able: p.able, Queued: time.Duration(queued * float64(s))}
			if p.turns {
				sample.Turn = now.String()
			}
			if pending != 0 && !p.deaf {
				sample.Pong = &Pong{N: pending, Inflight: p.inflight, Done: int64(done), Counts: !p.mute, CPU: sample.CPU}
				pending = 0
			}
			if n = w.Look(sample); n.Breach != nil {
				return found{n.Breach.Kind, now.Sub(time.Unix(0, 0))}, n.Breach
			}
			if n.Ping != 0 {
				pending = n.Ping
			}
		}
	}
	return found{}, nil
}

// Each life ends in the breach that it should, within a look of when it should,
// or in none.
func TestRules(t *testing.T) {
	busy := phase{lasts: 500 * ms, share: 0.5, inflight: 3, rate: 100}
	for _, tc := range []struct {
		name  string
		life  []phase
		kind  string
		after time.Duration // of the breach, since the start
	}{
		{"a process that sleeps is not even asked", []phase{{lasts: time.Hour}}, "", 0},
		{"one that works hard and finishes requests is left alone", []phase{{lasts: time.Hour, share: 1, inflight: 10, rate: 50}}, "", 0},
		{"a slow outgoing request is none of our business", []phase{busy, {lasts: 24 * time.Hour, inflight: 1}}, "", 0},
		{"nor are a thousand of them with a little work each", []phase{{lasts: time.Hour, share: 0.05, inflight: 1000}}, "", 0},
		{"a connection that stays open for a day may do a lot, bit by bit", []phase{{lasts: 24 * time.Hour, share: 0.08, inflight: 1}}, "", 0},
		{"a loop is found when it has burned its limit", []phase{busy, {lasts: time.Hour, share: 1, deaf: true, inflight: 1}}, Block, 1600 * ms},
		{"a loop that gets half a CPU is found when it has burned as much", []phase{busy, {lasts: time.Hour, share: 0.5, deaf: true}}, Block, 2600 * ms},
		{"work that returns before its limit is left alone", []phase{busy, {lasts: 900 * ms, share: 1, deaf: true}, busy, {lasts: 900 * ms, share: 1, deaf: true}, busy}, "", 0},
		{"many requests' turns in one round of the event loop are left alone", []phase{busy, {lasts: time.Minute, share: 1, deaf: true, turns: true, inflight: 900}}, "", 0},
		{"a loop among them is found", []phase{{lasts: 5 * s, share: 1, deaf: true, turns: true}, {lasts: time.Hour, share: 1, deaf: true}}, Block, 6100 * ms},
		{"a wait without end is found after three times the limit", []phase{busy, {lasts: time.Hour, deaf: true}}, Stall, 3600 * ms},
		{"a wait that ends before is left alone", []phase{busy, {lasts: 2900 * ms, deaf: true}, busy}, "", 0},
		{"work that waits for a CPU is left alone", []phase{busy, {lasts: 20 * s, share: 0.02, deaf: true, able: true, inflight: 1}, busy}, "", 0},
		{"nor is work that waits for a CPU between two looks", []phase{busy, {lasts: 20 * s, share: 0.02, deaf: true, queues: 0.9, inflight: 1}, busy}, "", 0},
		{"a loop that gets hardly any CPU is found when it has burned its limit", []phase{busy, {lasts: time.Hour, share: 0.02, deaf: true, able: true}}, Block, 50600 * ms},
		{"a storm is found when it has burned its limit", []phase{busy, {lasts: time.Hour, share: 1, inflight: 1}}, Storm, 10600 * ms},
		{"a storm among requests that finish is not told from honest work", []phase{{lasts: time.Hour, share: 1, inflight: 2, rate: 1}}, "", 0},
		{"a storm in a process that does not count is not accused", []phase{{lasts: time.Hour, share: 1, inflight: 1, mute: true}}, "", 0},
		{"a miner is found when it has burned its limit", []phase{busy, {lasts: time.Hour, share: 1}}, Idle, 10600 * ms},
		{"a miner that takes little is found when its grace is over", []phase{busy, {lasts: time.Hour, share: 0.2}}, Idle, 35600 * ms},
		{"work after the answer has its grace", []phase{busy, {lasts: 9 * s, share: 1}, {lasts: time.Hour}}, "", 0},
		{"requests give it a new one", []phase{busy, {lasts: 9 * s, share: 1}, busy, {lasts: 9 * s, share: 1}, busy}, "", 0},
		{"a freeze in the middle of a turn accuses nobody of waiting", []phase{busy, {lasts: 500 * ms, share: 0.2, deaf: true, late: 5 * time.Hour}, busy, busy}, "", 0},
		{"a freeze in the middle of work after the answer takes none of its grace", []phase{busy, {lasts: 9 * s, share: 0.9, late: time.Hour}, {lasts: 9 * s, share: 0.9}, {lasts: time.Hour}}, "", 0},
		{"a loop goes on after a freeze, and is found from there", []phase{busy, {lasts: 900 * ms, share: 1, deaf: true, late: time.Hour}, {lasts: time.Hour, share: 1, deaf: true}}, Block, time.Hour + 2600*ms},
		{"a wait that begins before a freeze is found after it, though it uses no CPU", []phase{busy, {lasts: s, deaf: true, late: time.Hour}, {lasts: time.Hour, deaf: true}}, Stall, time.Hour + 4600*ms},
		{"a short freeze adds to no wait", []phase{busy, {lasts: 2900 * ms, deaf: true, late: 900 * ms}, busy}, "", 0},
		{"looks that come late all the time still find a loop", []phase{busy, {lasts: time.Hour, share: 1, deaf: true, lag: 80 * ms}}, Block, 1780 * ms},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, breach := live(&Watch{Limits: limits}, tc.life)
			if got.kind != tc.kind || got.at < tc.after-200*ms || got.at > tc.after+200*ms {
				t.Errorf("got %q after %v, want %q after %v", got.kind, got.at, tc.kind, tc.after)
			}
			if breach != nil && breach.Measured < breach.Limit {
				t.Errorf("measured %v, less than the limit of %v", breach.Measured, breach.Limit)
			}
		})
	}
}

// What has no limit is not watched.
func TestNoLimits(t *testing.T) {
	lives := map[string][]phase{
		Block: {{lasts: time.Hour, share: 1, deaf: true}},
		Stall: {{lasts: s, share: 1}, {lasts: 50 * ms, share: 1, deaf: true}, {lasts: time.Hour, deaf: true}},
		Storm: {{lasts: time.Hour, share: 1, inflight: 1}},
		Idle:  {{lasts: time.Hour, share: 1}},
	}
	for kind, life := range lives {
		without := limits
		if kind == Block || kind == Stall {
			without.Block = 0
		} else {
			without.CPU, without.Background = 0, 0
		}
		if got, _ := live(&Watch{Limits: limits}, life); got.kind != kind {
			t.Errorf("with limits, %s is found as %q", kind, got.kind)
		}
		if got, _ := live(&Watch{Limits: without}, life); got.kind != "" {
			t.Errorf("without its limit, %s is found as %q", kind, got.kind)
		}
	}
}

// A breach is found right at the limit, not at the next look of many.
func TestExactLook(t *testing.T) {
	for _, block := range []time.Duration{50 * ms, 333 * ms, time.Second, 77 * time.Second} {
		_, b := live(&Watch{Limits: Limits{Block: block}}, []phase{{lasts: time.Hour, share: 1, deaf: true}})
		if b == nil || b.Measured > block+2*minLook {
			t.Errorf("with a limit of %v: %+v", block, b)
		}
	}
}

// An idle process is looked at seldom, and asked only when it has run: one that
// answers and does nothing else is not asked again.
func TestIdleIsCheap(t *testing.T) {
	w := &Watch{Limits: limits}
	now := time.Unix(0, 0)
	cpu := time.Duration(0)
	looks, pings := 0, 0
	n := w.Look(Sample{At: now})
	cpu += 5 * ms
	for now.Before(time.Unix(60, 0)) {
		looks++
		now = now.Add(n.In)
		sample := Sample{At: now, CPU: cpu}
		if n.Ping != 0 { // it has answered since, which took it a moment
			pings++
			cpu += 200 * time.Microsecond
			sample.CPU = cpu
			sample.Pong = &Pong{N: n.Ping, Counts: true, CPU: cpu}
		}
		n = w.Look(sample)
	}
	if looks > 601 || pings != 1 {
		t.Errorf("%d looks and %d pings in a minute", looks, pings)
	}
}
