package cell

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// Bounds of what a container may print. What is over them is dropped and
// counted, never waited for: a log driver that hangs must not hang the code.
const (
	maxLine     = 16 << 10  // of the cell's output, with its newline
	maxRaw      = 128 << 10 // of a line from a process
	maxMessage  = 12 << 10
	linesPerSec = 500
	lineBurst   = 2000
	bytesPerSec = 512 << 10
	byteBurst   = 2 << 20
	logQueue    = 1024 // lines that wait for the log driver
)

// entry is one line of the container's log (docs/cell.md).
type entry struct {
	Time     string `json:"time"`
	Function string `json:"function,omitempty"`
	Version  string `json:"version,omitempty"`
	Request  string `json:"request,omitempty"`
	Level    string `json:"level"`
	Message  string `json:"message"`
}

// logger writes entries as JSON lines to one writer, from a queue.
type logger struct {
	mu      sync.Mutex
	lines   bucket
	bytes   bucket
	dropped int
	closed  bool
	queue   chan []byte
	done    chan struct{}
	now     func() time.Time
}

func newLogger(w io.Writer, now func() time.Time) *logger {
	l := &logger{
		lines: bucket{rate: linesPerSec, burst: lineBurst},
		bytes: bucket{rate: bytesPerSec, burst: byteBurst},
		queue: make(chan []byte, logQueue),
		done:  make(chan struct{}),
		now:   now,
	}
	go func() {
		defer close(l.done)
		for line := range l.queue {
			w.Write(line)
		}
	}()
	return l
}

// log queues an entry, or drops it when the container prints too much. The
// first entry after a gap is preceded by one that tells how many are missing.
func (l *logger) log(e entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	e.Time = now.UTC().Format("2006-01-02T15:04:05.000Z")
	line := e.line()
	if l.closed {
		return
	}
	if len(l.queue) > logQueue-2 || !l.lines.has(now, 1) || !l.bytes.has(now, float64(len(line))) {
		l.dropped++
		return
	}
	l.lines.take(1)
	l.bytes.take(float64(len(line)))
	if l.dropped > 0 {
		gap := entry{Time: e.Time, Level: "platform", Message: fmt.Sprintf("%d lines were dropped here: the code prints more than %d lines or %d KiB a second", l.dropped, linesPerSec, bytesPerSec>>10)}
		l.dropped = 0
		l.queue <- gap.line()
	}
	l.queue <- line
}

// platform logs the cell's own words.
func (l *logger) platform(format string, args ...any) {
	l.log(entry{Level: "platform", Message: fmt.Sprintf(format, args...)})
}

// close writes what is queued and waits for it.
func (l *logger) close() {
	l.mu.Lock()
	l.closed = true
	close(l.queue)
	l.mu.Unlock()
	<-l.done
}

// line is e as a JSON line of at most maxLine bytes.
func (e entry) line() []byte {
	b := e.encode()
	if len(b) > maxLine { // escapes can make a character six times as long
		e.Message = cut(e.Message, maxMessage/6)
		b = e.encode()
	}
	return b
}

func (e entry) encode() []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.Encode(e) // strings only: it can't fail
	return b.Bytes()
}

// cut shortens s to at most n bytes and says so.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return fmt.Sprintf("%s… (%d bytes)", s[:n], len(s))
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

// parseLine makes an entry of what a process printed. The harness marks its
// records with a record separator; anything else is a message of the given
// level. Records can be forged by the code, so only its own words are taken
// from them: never the level "platform".
func parseLine(line []byte, level string) entry {
	var rec struct {
		L string `json:"l"`
		M string `json:"m"`
		R string `json:"r"`
	}
	if rest, ok := bytes.CutPrefix(line, []byte{0x1e}); ok && json.Unmarshal(rest, &rec) == nil {
		switch rec.L {
		case "info", "warn", "error", "debug":
			level = rec.L
		}
		return entry{Level: level, Request: cut(rec.R, 128), Message: cut(rec.M, maxMessage)}
	}
	return entry{Level: level, Message: cut(strings.ToValidUTF8(string(line), "\uFFFD"), maxMessage)}
}

// readLines calls each with every line of r without its newline, until r ends.
// Of a line longer than maxRaw it passes on the beginning.
func readLines(r io.Reader, each func([]byte)) {
	br := bufio.NewReaderSize(r, 16<<10)
	var line []byte
	for {
		part, err := br.ReadSlice('\n')
		line = append(line, part[:min(len(part), maxRaw-min(len(line), maxRaw))]...)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if line = bytes.TrimSuffix(line, []byte("\n")); len(line) > 0 {
			each(line)
		}
		line = line[:0]
		if err != nil {
			return
		}
	}
}
