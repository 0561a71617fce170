package cells

import (
	"math"
	"time"
)

// Pool bounds how many blank cells are kept.
type Pool struct {
	Min, Max int // Max 0: none, a cell is made when it is wanted
}

// window is the time over which the rate of use is counted, and margin what
// two rounds of making a cell may take on a busy machine.
const (
	window = 10 * time.Second
	margin = 2 * time.Second
)

// target is how many blank cells to keep, given when cells were taken lately:
// Min, and as many more as are likely to be taken while new ones are made.
func (p Pool) target(taken []time.Time, now time.Time) int {
	lately := 0
	for _, t := range taken {
		if now.Sub(t) < window {
			lately++
		}
	}
	rate := float64(lately) / window.Seconds()
	return min(p.Min+int(math.Ceil(rate*margin.Seconds())), p.Max)
}

// since drops what target no longer counts.
func since(taken []time.Time, now time.Time) []time.Time {
	for len(taken) > 0 && now.Sub(taken[0]) >= window {
		taken = taken[1:]
	}
	return taken
}
