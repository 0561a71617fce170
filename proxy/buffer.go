package proxy

import (
	"bufio"
	"io"
	"sync"
	"time"
)

// buffered writes log records together: at the latest after a quarter of a
// second, so that someone who follows the log sees them as they come.
type buffered struct {
	mu    sync.Mutex
	w     *bufio.Writer
	timer *time.Timer
	armed bool
}

const flushAfter = 250 * time.Millisecond

func newBuffered(w io.Writer) *buffered {
	b := &buffered{w: bufio.NewWriterSize(w, 64<<10)}
	b.timer = time.AfterFunc(time.Hour, b.flush)
	b.timer.Stop()
	return b
}

// Write takes one record.
func (b *buffered) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.armed {
		b.armed = true
		b.timer.Reset(flushAfter)
	}
	return b.w.Write(p)
}

func (b *buffered) flush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.armed = false
	b.w.Flush()
}

// Close writes what is left.
func (b *buffered) Close() error {
	b.timer.Stop()
	b.flush()
	return nil
}
