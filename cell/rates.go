package cell

import (
	"fmt"
	"time"
)

// How much a container may print, all its functions together, and how much of
// that one of them, so that it leaves room for the others. What is over that is
// dropped and counted.
var (
	perContainer = rate{lines: 500, lineBurst: 2000, bytes: 512 << 10, byteBurst: 2 << 20}
	perFunction  = rate{lines: 250, lineBurst: 1000, bytes: 256 << 10, byteBurst: 1 << 20}
	tooMany      = fmt.Sprintf("more than %.0f lines or %.0f KiB a second, or, with all other functions, %.0f lines or %.0f KiB",
		perFunction.lines, perFunction.bytes/1024, perContainer.lines, perContainer.bytes/1024)
)

// maxGates is how many functions are told apart before those are forgotten that
// have been quiet.
const maxGates = 256

const logTime = "2006-01-02T15:04:05.000Z"

// rate is a number of lines and bytes a second, and of those at once.
type rate struct{ lines, lineBurst, bytes, byteBurst float64 }

// gate lets a rate of lines pass.
type gate struct {
	lines, bytes bucket
	dropped      int
}

func newGate(r rate) *gate {
	return &gate{lines: bucket{rate: r.lines, burst: r.lineBurst}, bytes: bucket{rate: r.bytes, burst: r.byteBurst}}
}

func (g *gate) has(now time.Time, size int) bool {
	// Both are asked, for each takes note of the time.
	lines, bytes := g.lines.has(now, 1), g.bytes.has(now, float64(size))
	return lines && bytes
}

func (g *gate) take(size int) {
	g.lines.take(1)
	g.bytes.take(float64(size))
}

// rates holds a container and its functions to their rates. The cell's own
// words have a gate of their own: no code can keep them from being heard.
type rates struct {
	all, own *gate
	each     map[string]*gate
}

func newRates() rates {
	return rates{all: newGate(perContainer), own: newGate(perFunction), each: map[string]*gate{}}
}

// admit tells whether an entry of so many bytes may be logged, and how many of
// its function's were dropped since the last one.
func (r *rates) admit(now time.Time, e entry, size int) (gap int, ok bool) {
	g := r.own
	if e.Level != "platform" {
		g = r.of(now, e.Function)
		if !r.all.has(now, size) {
			g.dropped++
			return 0, false
		}
	}
	if !g.has(now, size) {
		g.dropped++
		return 0, false
	}
	g.take(size)
	if e.Level != "platform" {
		r.all.take(size)
	}
	gap, g.dropped = g.dropped, 0
	return gap, true
}

// of returns a function's gate.
func (r *rates) of(now time.Time, function string) *gate {
	g := r.each[function]
	if g == nil {
		if len(r.each) >= maxGates {
			r.forget(now)
		}
		g = newGate(perFunction)
		r.each[function] = g
	}
	return g
}

// forget drops the gates that are as good as new.
func (r *rates) forget(now time.Time) {
	for name, g := range r.each {
		if g.dropped == 0 && g.has(now, 0) && g.lines.used == 0 && g.bytes.used == 0 {
			delete(r.each, name)
		}
	}
}

// bucket is a token bucket that starts full.
type bucket struct {
	rate, burst, used float64
	last              time.Time
}

func (b *bucket) has(now time.Time, n float64) bool {
	b.used = max(0, b.used-now.Sub(b.last).Seconds()*b.rate)
	b.last = now
	return b.used+n <= b.burst
}

func (b *bucket) take(n float64) { b.used += n }
