package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// Head is the end of a log: its last record, and the hash of that one's line.
type Head struct {
	N        int64  `json:"n"`
	Hash     string `json:"hash"`
	Revision int64  `json:"revision"` // of etcd, up to which all is recorded
}

// String is how people note it down: "17:3f2a…".
func (h Head) String() string { return fmt.Sprintf("%d:%s", h.N, h.Hash) }

// ParseHead reads what [Head.String] wrote.
func ParseHead(text string) (Head, error) {
	var h Head
	if n, err := fmt.Sscanf(text, "%d:%64s", &h.N, &h.Hash); err != nil || n != 2 || len(h.Hash) != 64 || h.String() != text {
		return Head{}, fmt.Errorf("%q is no end of an audit log; want its number and hash, like 17:3f2a… with 64 hex digits", text)
	}
	return h, nil
}

// first is what the first record follows.
var first = Head{Hash: strings.Repeat("0", 64)}

// add chains a record to a log that ends so, and returns its line, with its end,
// and the log's new head.
func (h Head) add(r Record, at time.Time) ([]byte, Head, error) {
	r.N, r.Prev, r.At = h.N+1, h.Hash, at.UTC().Truncate(time.Millisecond)
	line, err := json.Marshal(r)
	if err != nil {
		return nil, h, fmt.Errorf("cannot encode record %d: %w", r.N, err)
	}
	return append(line, '\n'), Head{r.N, digest(line), max(h.Revision, r.Revision)}, nil
}

// Log is what [Verify] found: an unbroken chain of records.
type Log struct {
	First Record
	Last  Record
	Head  Head
}

// ErrBroken means that a log is not what was recorded.
var ErrBroken = errors.New("the chain is broken")

// maxLine is the longest line that is read, in bytes.
const maxLine = 1 << 20

// Verify reads a log, one record a line, and tells whether it is unbroken: each
// record numbered one above the last and holding its hash. It may begin with any
// record: what was before it is vouched for by that one's hash. Each record is
// given to see, if that is not nil. The error wraps [ErrBroken] and names the
// line, unless reading failed or see did.
//
// A log that was cut off at its end is unbroken: see [VerifyTo].
func Verify(r io.Reader, see func(Record) error) (Log, error) {
	var l Log
	err := l.read(r, see)
	return l, err
}

// VerifyTo is [Verify] of a log that has to contain an end that was noted; the
// zero head stands for none.
func VerifyTo(r io.Reader, noted Head) (Log, error) {
	var l Log
	found := noted.N == 0
	err := l.read(r, func(rec Record) error {
		if rec.N == noted.N {
			if l.Head.Hash != noted.Hash {
				return fmt.Errorf("%w: record %d has the hash %.12s…, but %.12s… was noted", ErrBroken, rec.N, l.Head.Hash, noted.Hash)
			}
			found = true
		}
		return nil
	})
	if err == nil && !found {
		err = fmt.Errorf("%w: record %d, which was noted, is not in it: it has records %d to %d", ErrBroken, noted.N, l.First.N, l.Head.N)
	}
	return l, err
}

// Extend verifies that more records follow a log.
func (l Log) Extend(r io.Reader) (Log, error) {
	err := l.read(r, nil)
	return l, err
}

func (l *Log) read(r io.Reader, see func(Record) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	for n := 1; lines.Scan(); n++ {
		next, err := l.follow(lines.Bytes())
		if err != nil {
			return fmt.Errorf("%w at line %d: %w", ErrBroken, n, err)
		}
		if see != nil {
			if err := see(next); err != nil {
				return err
			}
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("cannot read the log after record %d: %w", l.Head.N, err)
	}
	return nil
}

// follow takes the next line of a log.
func (l *Log) follow(line []byte) (Record, error) {
	var r Record
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil || r.N < 1 || len(r.Prev) != 64 || d.More() {
		return r, errors.New("it is no record")
	}
	switch {
	case l.Head.N == 0:
		l.First = r
		if r.N == 1 && r.Prev != first.Hash {
			return r, errors.New("record 1 follows another")
		}
	case r.N != l.Head.N+1:
		return r, fmt.Errorf("record %d stands there; want record %d", r.N, l.Head.N+1)
	case r.Prev != l.Head.Hash:
		return r, fmt.Errorf("record %d says that the line before it has the hash %.12s…, but it has %.12s…: record %d or record %d was changed", r.N, r.Prev, l.Head.Hash, l.Head.N, r.N)
	case r.Revision < l.Last.Revision:
		return r, fmt.Errorf("record %d is of revision %d, before record %d's %d", r.N, r.Revision, l.Head.N, l.Last.Revision)
	}
	l.Last, l.Head = r, Head{r.N, digest(line), r.Revision}
	return r, nil
}
