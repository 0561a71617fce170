package cell

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"

	"bulkhead/cell/inspect"
)

const (
	markSize   = 16      // bytes of a mark
	markOffset = 16      // from the beginning of its page: malloc's own words come first
	markBlock  = 4 << 10 // a page
	markChunk  = 1 << 20 // read at a time
	maxID      = 128     // bytes of a request's id
)

// mark is a place in a process's memory where it keeps the id of the request
// in whose synchronous turn it is (docs/cell.md). It can be read when the
// process can no longer be asked.
type mark struct {
	mu  sync.Mutex
	mem *os.File // the process's memory; nil: there is no mark
	at  int64    // its address

	over bool // the process has ended
}

// close forgets the mark.
func (m *mark) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mem.Close()
	m.mem, m.over = nil, true
}

// find looks for the mark in the memory of pid. Where that may not be read,
// there is nothing to find, and nobody will be named later.
func (m *mark) find(pid int, text string) {
	want, err := hex.DecodeString(text)
	if err != nil || len(want) != markSize {
		return
	}
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return
	}
	at := search(maps, mem, want)
	m.mu.Lock()
	defer m.mu.Unlock()
	if at == 0 || m.over {
		mem.Close()
		return
	}
	m.mem, m.at = mem, at
}

// read tells whose synchronous turn it is: a request's id, or nothing.
func (m *mark) read() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mem == nil {
		return ""
	}
	var b [1 + maxID]byte
	if _, err := m.mem.ReadAt(b[:], m.at+markSize); err != nil || b[0] == 0 {
		return ""
	}
	return inspect.Clean(latin1(b[1:1+min(int(b[0]), maxID)]), maxID)
}

func latin1(b []byte) string {
	var s strings.Builder
	for _, c := range b {
		s.WriteRune(rune(c))
	}
	return s.String()
}

// search finds the page that begins, behind malloc's words, with want, in the
// anonymous memory that maps (proc_pid_maps(5)) says is there to read and
// write; 0: there is none.
func search(maps []byte, mem io.ReaderAt, want []byte) int64 {
	buf := make([]byte, markChunk)
	for s := bufio.NewScanner(bytes.NewReader(maps)); s.Scan(); {
		from, to, ok := anonymous(s.Text())
		for ; ok && from < to; from += markChunk {
			n, _ := mem.ReadAt(buf[:min(markChunk, to-from)], from)
			for p := 0; p+markOffset+markSize <= n; p += markBlock {
				if bytes.Equal(buf[p+markOffset:p+markOffset+markSize], want) {
					return from + int64(p) + markOffset
				}
			}
		}
	}
	return 0
}

// anonymous reads a line of maps: the range, if it is private memory of no
// file that can be read and written.
func anonymous(line string) (from, to int64, ok bool) {
	f := strings.Fields(line)
	if len(f) != 5 || f[1] != "rw-p" || f[4] != "0" {
		return 0, 0, false
	}
	a, b, _ := strings.Cut(f[0], "-")
	from, err1 := strconv.ParseInt(a, 16, 64)
	to, err2 := strconv.ParseInt(b, 16, 64)
	return from, to, err1 == nil && err2 == nil
}
