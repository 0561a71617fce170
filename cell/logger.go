package cell

import (
	"fmt"
	"io"
	"sync"
	"time"
)

const (
	logQueue = 256       // lines of the cell's own that wait for its output
	logKept  = 256 << 10 // bytes of lines that wait for the reader
	logBatch = 64 << 10  // bytes that are written to it at once, about
	logDrain = 250 * time.Millisecond
)

// logger keeps the container's log for its one reader, a control connection
// that asked for it. What nobody reads in time makes room for what comes after
// it; nobody who prints ever waits. The cell's own words go to its output too,
// and nothing else does.
type logger struct {
	mu     sync.Mutex
	rates  rates
	kept   ring
	reader *conn
	busy   bool // the reader has lines that it may not have written
	closed bool
	change *sync.Cond // of kept, reader, busy or closed
	own    chan []byte
	done   chan struct{}
	now    func() time.Time
}

func newLogger(w io.Writer, now func() time.Time) *logger {
	l := &logger{rates: newRates(), own: make(chan []byte, logQueue), done: make(chan struct{}), now: now}
	l.change = sync.NewCond(&l.mu)
	go func() {
		defer close(l.done)
		for line := range l.own {
			w.Write(line)
		}
	}()
	return l
}

// log takes an entry, or drops it when there are too many. The first that is
// taken after a gap is preceded by one that tells how many are missing.
func (l *logger) log(e entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	now := l.now()
	e.Time = now.UTC().Format(logTime)
	line := e.line()
	gap, ok := l.rates.admit(now, e, len(line))
	if !ok {
		return
	}
	if gap > 0 {
		l.put(entry{Time: e.Time, Function: e.Function, Version: e.Version, Level: "platform", Message: fmt.Sprintf("%d lines were dropped here: %s", gap, tooMany)}.line())
	}
	l.put(line)
	if e.Level == "platform" {
		select {
		case l.own <- line:
		default: // whoever should read it does not
		}
	}
}

func (l *logger) put(line []byte) {
	l.kept.put(line)
	l.change.Broadcast()
}

// platform logs the cell's own words.
func (l *logger) platform(format string, args ...any) {
	l.log(entry{Level: "platform", Message: fmt.Sprintf(format, args...)})
}

// assign makes k the reader. False: it was already.
func (l *logger) assign(k *conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	was := l.reader
	l.reader, l.busy = k, false
	l.change.Broadcast()
	return was != k
}

// dismiss takes k's place away, if it is the reader.
func (l *logger) dismiss(k *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reader == k {
		l.reader, l.busy = nil, false
		l.change.Broadcast()
	}
}

// next waits for lines and gives them, as events, to k; nil: k is no longer the
// reader, or there will be no more. What it gave last counts as written.
func (l *logger) next(k *conn) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reader == k {
		l.busy = false
		l.change.Broadcast()
	}
	for l.reader == k && l.kept.empty() && !l.closed {
		l.change.Wait()
	}
	if l.reader != k || l.kept.empty() {
		return nil
	}
	l.busy = true
	var batch []byte
	if lost := l.kept.forgotten(); lost > 0 {
		e := entry{Time: l.now().UTC().Format(logTime), Level: "platform", Message: fmt.Sprintf("%d lines were dropped here: they were not read in time", lost)}
		batch = appendEvent(batch, e.line())
	}
	for len(batch) < logBatch && !l.kept.empty() {
		batch = appendEvent(batch, l.kept.take())
	}
	return batch
}

// appendEvent appends a line of the log as the event that it is to a reader.
func appendEvent(dst, line []byte) []byte {
	return append(append(dst, `{"event":"log",`...), line[1:]...)
}

// drain gives the reader a moment to get what there is.
func (l *logger) drain() {
	late := false
	timer := time.AfterFunc(logDrain, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		late = true
		l.change.Broadcast()
	})
	defer timer.Stop()
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.reader != nil && (l.busy || !l.kept.empty()) && !late {
		l.change.Wait()
	}
}

// close writes what is queued for the cell's own output and waits for it.
func (l *logger) close() {
	l.mu.Lock()
	l.closed = true
	l.change.Broadcast()
	close(l.own)
	l.mu.Unlock()
	<-l.done
}

// ring holds the latest lines, logKept bytes of them at most.
type ring struct {
	lines [][]byte
	bytes int
	lost  int // that were pushed out since forgotten
}

func (r *ring) empty() bool { return len(r.lines) == 0 }

func (r *ring) put(line []byte) {
	r.lines = append(r.lines, line)
	for r.bytes += len(line); r.bytes > logKept; r.lost++ {
		r.take()
	}
}

func (r *ring) take() []byte {
	line := r.lines[0]
	r.lines[0] = nil
	r.lines = r.lines[1:]
	r.bytes -= len(line)
	return line
}

func (r *ring) forgotten() int {
	n := r.lost
	r.lost = 0
	return n
}

// sendLogs writes the log to k for as long as k is its reader.
func (c *Cell) sendLogs(k *conn) {
	for batch := c.log.next(k); batch != nil; batch = c.log.next(k) {
		if _, err := k.c.Write(batch); err != nil {
			k.close()
			break
		}
	}
	c.log.dismiss(k)
}
