package cells

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Where the kernel has no cpu.idle (before 5.15), who runs behind has this
// weight, and else what a group has that nobody has given one.
const (
	lowShares, usualShares = "64", "1024" // version 1
	lowWeight, usualWeight = "6", "100"   // version 2
)

// goBehind has the cell's processes run behind those of any other cell that
// does not: the kernel interrupts them at once for whoever wakes, and they have
// a weight of 3, where others have 1,024. no undoes it.
func (c *Cell) goBehind(yes bool) error {
	dir, v2, err := cgroupOf(c.PID, "cpu")
	if err != nil {
		return err
	}
	word := "0"
	if yes {
		word = "1"
	}
	err = write(filepath.Join(dir, "cpu.idle"), word)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, low, usual := "cpu.shares", lowShares, usualShares
	if v2 {
		file, low, usual = "cpu.weight", lowWeight, usualWeight
	}
	if yes {
		usual = low
	}
	return write(filepath.Join(dir, file), usual)
}

// meter is where the kernel counts a cell's use of CPU.
type meter struct {
	path string
	v2   bool
}

func (c *Cell) meter() (meter, error) {
	dir, v2, err := cgroupOf(c.PID, "cpuacct")
	if err != nil {
		return meter{}, err
	}
	if v2 {
		return meter{filepath.Join(dir, "cpu.stat"), true}, nil
	}
	return meter{filepath.Join(dir, "cpuacct.usage"), false}, nil
}

// used reads how much of a core's time the cell has used.
func (m meter) used() (time.Duration, error) {
	text, err := os.ReadFile(m.path)
	if err != nil {
		return 0, fmt.Errorf("cannot tell a cell's use of CPU: %w", err)
	}
	number, unit := string(text), time.Nanosecond
	if m.v2 {
		_, number, _ = strings.Cut(number, "usage_usec ")
		number, _, _ = strings.Cut(number, "\n")
		unit = time.Microsecond
	}
	n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("cannot tell a cell's use of CPU: %s: %w", m.path, err)
	}
	return time.Duration(n) * unit, nil
}
