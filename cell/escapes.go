package cell

import (
	"time"

	"bulkhead/cell/watch"
)

// maxEscapes is how many turns in a row may pass the limit and come back by
// themselves just before they are stopped.
const maxEscapes = 5

// escapes counts those of a process. Only who breaks in touches it.
type escapes struct {
	n    int
	cpu  time.Duration // at the last
	done int64         // requests that had ended then
}

// again notes one of turn's, when the process has burned so much in all and
// ended so many requests, and tells whether it is one too many. A row ends when
// the process has done other things for twice the limit. Where it can't be told
// whose turn it was, it may have been many requests' in one round of the event
// loop: then one that has ended ends the row, too.
func (e *escapes) again(b watch.Breach, turn string, cpu time.Duration, done int64) bool {
	if cpu-e.cpu > b.Measured+2*b.Limit || turn == "" && done != e.done {
		e.n = 0
	}
	e.n, e.cpu, e.done = e.n+1, cpu, done
	return e.n >= maxEscapes
}

// burned is the CPU time of the process's main thread; 0: it has ended.
func (p *process) burned() time.Duration {
	cpu, _, _ := p.cpuTime()
	return cpu
}
