package cells

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// cgroupRoot is where the kernel's control groups are.
const cgroupRoot = "/sys/fs/cgroup"

// cgroupOf returns the directory of a process's group: with version 1 that of
// a controller, with version 2 the one there is. v2 says which.
func cgroupOf(pid int, controller string) (dir string, v2 bool, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return "", false, fmt.Errorf("cannot find the cgroup of process %d: %w", pid, err)
	}
	unified := ""
	for line := range strings.Lines(string(text)) {
		// cgroups(7): hierarchy id, controllers, path.
		part := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(part) != 3 {
			continue
		}
		for c := range strings.SplitSeq(part[1], ",") {
			if c == controller {
				return filepath.Join(cgroupRoot, part[1], part[2]), false, nil
			}
		}
		if part[0] == "0" {
			unified = filepath.Join(cgroupRoot, part[2])
		}
	}
	if unified == "" {
		return "", false, fmt.Errorf("process %d is in no cgroup of %s", pid, controller)
	}
	return unified, true, nil
}

// Freezer is the file that freezes and thaws a container, and what to write.
type Freezer struct {
	Path          string
	Freeze, Thaw  string
	state, frozen string // where to read, and what it says
}

// Freezer returns the cell's.
func (c *Cell) Freezer() (Freezer, error) {
	dir, v2, err := cgroupOf(c.PID, "freezer")
	if err != nil {
		return Freezer{}, err
	}
	if v2 {
		return Freezer{filepath.Join(dir, "cgroup.freeze"), "1", "0", filepath.Join(dir, "cgroup.freeze"), "1"}, nil
	}
	return Freezer{filepath.Join(dir, "freezer.state"), "FROZEN", "THAWED", filepath.Join(dir, "freezer.state"), "FROZEN"}, nil
}

// Frozen says whether the cell is.
func (c *Cell) Frozen() bool {
	f, err := c.Freezer()
	if err != nil {
		return false
	}
	text, err := os.ReadFile(f.state)
	return err == nil && strings.TrimSpace(string(text)) == f.frozen
}

func (c *Cell) freeze(yes bool) error {
	f, err := c.Freezer()
	if err != nil {
		return err
	}
	word := f.Thaw
	if yes {
		word = f.Freeze
	}
	return write(f.Path, word)
}

// limit puts limits in force at once. The engine hears of them later, by
// Resize: until then it shows, and systemd might restore, the old ones.
func (c *Cell) limit(l Limits) error {
	if l == c.Limits {
		return nil
	}
	memory, v2, err := cgroupOf(c.PID, "memory")
	if err != nil {
		return err
	}
	quota := l.CPU / 10_000 // of 100,000 µs
	if v2 {
		return errors.Join(
			write(filepath.Join(memory, "memory.max"), strconv.FormatInt(l.Memory, 10)),
			write(filepath.Join(memory, "cpu.max"), fmt.Sprintf("%d 100000", quota)),
			write(filepath.Join(memory, "pids.max"), strconv.FormatInt(l.Pids, 10)),
		)
	}
	cpu, _, err := cgroupOf(c.PID, "cpu")
	if err != nil {
		return err
	}
	pids, _, err := cgroupOf(c.PID, "pids")
	if err != nil {
		return err
	}
	// Memory and swap together may never be less than memory.
	order := []string{"memory.memsw.limit_in_bytes", "memory.limit_in_bytes"}
	if l.Memory < c.Limits.Memory {
		order[0], order[1] = order[1], order[0]
	}
	for _, name := range order {
		if err := write(filepath.Join(memory, name), strconv.FormatInt(l.Memory, 10)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return errors.Join(
		write(filepath.Join(cpu, "cpu.cfs_quota_us"), strconv.FormatInt(quota, 10)),
		write(filepath.Join(pids, "pids.max"), strconv.FormatInt(l.Pids, 10)),
	)
}

// write writes to a file that must be there.
func write(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}
