package cell

import (
	"bytes"
	"path"
	"regexp"
	"strings"

	"bulkhead/cell/inspect"
)

// What Node prints to stderr when it cannot go on.
var (
	heapGone = []byte("<--- Last few GCs --->")
	heapFull = []byte("JavaScript heap out of memory")
	jsStack  = []byte("----- JavaScript stack trace -----")
	jsFrame  = regexp.MustCompile(`^ *[0-9]{1,3}: (?:.* \()?((?:file://)?/function/[^()]+:[0-9]+:[0-9]+)\)?$`)
)

// obituary reads a process's last words. Code can print them too, and thereby
// say of itself that it has run out of memory.
type obituary struct{ stack bool }

// last is what a line tells.
type last struct {
	full  bool   // the heap is
	where string // file:line:column of the tenant's code
}

func (o *obituary) read(line []byte) last {
	switch {
	case line[0] == 0x1e: // a record of the harness
	case bytes.Equal(line, heapGone), bytes.Contains(line, heapFull):
		return last{full: true}
	case bytes.Equal(line, jsStack):
		o.stack = true
	case o.stack:
		if m := jsFrame.FindSubmatch(line); m != nil {
			o.stack = false
			return last{where: inspect.Clean(path.Base(strings.TrimPrefix(string(m[1]), "file://")), 256)}
		}
	}
	return last{}
}

// lastTurn notes, once, whose synchronous turn it is.
func (p *process) lastTurn() {
	if p.dying.Load() == nil {
		request := p.mark.read()
		p.dying.CompareAndSwap(nil, &request)
	}
}

// notice keeps what a dying process tells, and whose turn it is: in a moment
// its memory is gone.
func (p *process) notice(l last) {
	if l == (last{}) {
		return
	}
	if l.full {
		p.heapOOM.Store(true)
	}
	p.lastTurn()
	if l.where != "" {
		p.place.Store(&l.where)
	}
}
