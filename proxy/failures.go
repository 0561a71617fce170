package proxy

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"bulkhead/internal/tally"
)

// failures counts the requests that the platform failed, in a file that
// outlives the proxy and that a second one beside it adds to as well.
type failures struct {
	file  string // empty: nobody wants to know
	log   *slog.Logger
	more  atomic.Int64 // that are not in the file yet
	timer *time.Timer
	mu    sync.Mutex // held while it is written
}

// countAfter is how long after a failure the file has it at the latest.
const countAfter = time.Second

func newFailures(file string, log *slog.Logger) *failures {
	f := &failures{file: file, log: log}
	f.timer = time.AfterFunc(time.Hour, f.save)
	f.timer.Stop()
	if file != "" {
		f.write(0) // from now on it is known that there were none
	}
	return f
}

// one counts one.
func (f *failures) one() {
	if f.file != "" && f.more.Add(1) == 1 {
		f.timer.Reset(countAfter)
	}
}

// save adds to the file what it lacks.
func (f *failures) save() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := f.more.Swap(0); n > 0 {
		f.write(n)
	}
}

// write adds n to the file. What can't be written is kept for the next time.
func (f *failures) write(n int64) {
	err := tally.Add(f.file, n)
	if err == nil {
		return
	}
	f.log.Error("failed requests are not counted for now", "error", err)
	if n > 0 && f.more.Add(n) == n {
		f.timer.Reset(countAfter)
	}
}

// Close writes what is left.
func (f *failures) Close() {
	f.timer.Stop()
	f.save()
	f.timer.Stop() // which a save that failed has set
}

// platforms reports whether the platform is to blame for a refusal, as far as
// the proxy can tell. A function that breaks the rules, the client, and what a
// runner or a function answers are not it.
func (r *refusal) platforms() bool {
	switch r.cause {
	case "no_instance", "instance_unreachable", "instance_gone":
		return true
	}
	return false
}

// refused notes that a request got a refusal for an answer.
func (r *record) refused(by *refusal) {
	r.status, r.cause, r.failed = by.status, by.cause, by.platforms()
}

// brokenOff notes that an answer ended early, and what would have been said of
// that had it not begun.
func (r *record) brokenOff(by *refusal) {
	r.cause, r.failed = "answer_broken_off", by.platforms()
}
