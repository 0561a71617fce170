package cell

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const mib = 1 << 20

// Sizing, from measurements of Node 26: what a booted function process takes
// for itself beside its heap, and what the cell and /tmp want.
const (
	perProcess  = 36 * mib
	cellReserve = 16 * mib
	defaultSize = 512 * mib // where the cgroup sets no limit
	maxHeap     = 4096 * mib
	minHeap     = 24 * mib
)

// Limits are what the container's memory allows.
type Limits struct {
	Memory    int64 // bytes; of the whole container
	Processes int   // Node processes at a time, the spare among them; at least 2
	HeapMiB   int   // --max-old-space-size of each
}

// LimitsFor derives the limits from a container's memory in bytes; 0 or less:
// unknown.
func LimitsFor(memory int64) Limits {
	if memory <= 0 {
		memory = defaultSize
	}
	usable := memory - cellReserve
	heap := min(max((usable-perProcess/2)*2/3, minHeap), maxHeap)
	return Limits{
		Memory:    memory,
		Processes: int(min(max(usable/perProcess, 2), 64)),
		HeapMiB:   int(heap / mib),
	}
}

// CgroupMemory reads the memory limit of the container whose cgroup file system
// is at root ("/sys/fs/cgroup"), version 2 or 1. 0: none is set.
func CgroupMemory(root string) int64 {
	for _, name := range []string{"memory.max", "memory/memory.limit_in_bytes"} {
		b, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
		// Version 1 says "no limit" as the largest multiple of a page.
		if err != nil || n > math.MaxInt64/2 {
			return 0
		}
		return n
	}
	return 0
}

// oomKills counts the processes that the kernel has killed in this container
// for want of memory; 0 where it does not tell.
func oomKills(root string) int64 {
	for _, name := range []string{"memory.events", "memory/memory.oom_control"} {
		b, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) == 2 && f[0] == "oom_kill" {
				n, _ := strconv.ParseInt(f[1], 10, 64)
				return n
			}
		}
	}
	return 0
}

// Limit tells the cell what memory the container has now, in bytes. Processes
// that serve keep the heap they have; a spare with another is replaced.
func (c *Cell) Limit(memory int64) *Error {
	if memory <= 0 {
		return &Error{Status: 400, Code: "bad_request", Message: fmt.Sprintf("cannot limit the memory to %d bytes: want more than 0", memory)}
	}
	c.mu.Lock()
	l := LimitsFor(memory)
	if l == c.cfg.Limits {
		c.mu.Unlock()
		return nil
	}
	c.cfg.Limits = l
	c.command.heap, c.command.flags = l.HeapMiB, c.cfg.Flags(l)
	var old []*process
	for p := range c.procs {
		if p.state <= spare && p.heap != l.HeapMiB {
			c.leave(p) // so that nobody takes it
			old = append(old, p)
		}
	}
	c.notify()
	c.mu.Unlock()
	c.log.platform("the container's memory is %d MiB now: %d processes of %d MiB heap at most", l.Memory/mib, l.Processes, l.HeapMiB)
	for _, p := range old {
		c.kill(p, "the heap's size is another now")
	}
	return nil
}

// outgrown tells whether p was started with another heap than is due.
func (c *Cell) outgrown(p *process) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return p.heap != c.command.heap
}
