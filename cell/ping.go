package cell

import (
	"crypto/rand"
	"encoding/hex"
	"sync"
	"time"

	"bulkhead/cell/watch"
)

// settle is how long after an answer a process still works on having given it.
const settle = 2 * time.Millisecond

// How many lines a process may say on its channel: more than the cell ever asks
// it for. The rest is not even looked at.
const (
	saidRate  = 200 // a second
	saidBurst = 400
)

// question is the ping that is under way. What it asks to be told again is
// random: code can write to the channel as well, but it can't know that.
type question struct {
	mu     sync.Mutex
	text   string // empty: there is none
	number int64
}

// ping asks whether the event loop goes round. Only the last ping counts, and
// its answer once: it comes with number.
func (p *process) ping(number int64) {
	var b [8]byte
	rand.Read(b[:]) // never fails
	text := hex.EncodeToString(b[:])
	p.question.mu.Lock()
	p.question.text, p.question.number = text, number
	p.question.mu.Unlock()
	p.tell(map[string]string{"op": "ping", "n": text})
}

// settles tells whether text answers the ping under way, and its number.
func (q *question) settles(text string) (int64, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if text == "" || text != q.text {
		return 0, false
	}
	q.text = ""
	return q.number, true
}

// heard passes an answer on to the watchdog, with the CPU time up to which the
// process has done nothing else.
func (p *process) heard(m message) {
	n, ok := p.question.settles(m.N)
	if !ok {
		return
	}
	p.done.Store(m.Done)
	time.AfterFunc(settle, func() {
		if cpu, _, err := p.cpuTime(); err == nil {
			replace(p.pongs, watch.Pong{N: n, Inflight: m.Inflight, Done: m.Done, Counts: m.Counts, CPU: cpu})
		}
	})
}

// listen passes on what a process says on its channel, as much as is bearable.
func (p *process) listen(said func(*process, message)) {
	b := bucket{rate: saidRate, burst: saidBurst}
	readLines(p.ipc, func(line []byte) {
		if !b.has(time.Now(), 1) {
			return
		}
		b.take(1)
		if m := parseMessage(line); m.T != "" {
			said(p, m)
		}
	})
}
