package agent

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"bulkhead/agent/cells"
)

// What waking instances leave free of a host's memory: a share of it, and at
// least so much.
const (
	reserveShare = 20
	reserveLeast = 256 << 20
)

// resters is how many idle instances are asked to sleep at a time when the
// host is short of memory.
const resters = 4

// makeRoom says why there is no room for another awake instance of so much memory,
// and asks idle ones to sleep. Hosts promise more than they have to instances
// that may sleep: this is what keeps the promise from coming due all at once.
func (a *Agent) makeRoom(memory int64) error {
	available, total, err := readMemory()
	if err != nil || available-memory >= max(total/reserveShare, reserveLeast) {
		return nil // what can't be read holds up nobody
	}
	asked := a.restSome()
	return &cells.Full{
		Reason: fmt.Sprintf("the host has %d MiB of memory left, and has asked %d idle instances to sleep", available>>20, asked),
		After:  time.Second,
	}
}

// restSome asks frozen instances to sleep.
func (a *Agent) restSome() (asked int) {
	a.doorsMu.Lock()
	defer a.doorsMu.Unlock()
	for i, d := range a.doors {
		if cell, ok := a.cells.Of(i); ok && cell.Frozen() && d.rest() {
			if asked++; asked == resters {
				break
			}
		}
	}
	return asked
}

// readMemory returns how much memory could be had, and how much there is, in
// bytes (proc_meminfo(5)).
func readMemory() (available, total int64, err error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		name, rest, _ := strings.Cut(lines.Text(), ":")
		kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
		switch name {
		case "MemAvailable":
			available = kib << 10
		case "MemTotal":
			total = kib << 10
		}
	}
	if total == 0 {
		return 0, 0, fmt.Errorf("cannot read how much memory there is")
	}
	return available, total, nil
}
