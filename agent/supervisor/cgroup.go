package supervisor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"bulkhead/units"
)

// limits are what a slice or a service may use; -1: no limit.
type limits struct {
	Memory  int64 // bytes
	Swap    int64 // bytes
	Tasks   int64
	CPU     int64 // percent of one core
	CPUPart int64 // weight among neighbours; systemd's scale, 100 by default
}

func parseLimits(r *reader) limits {
	return limits{
		Memory:  read(r, "MemoryMax", -1, parseBytes),
		Swap:    read(r, "MemorySwapMax", -1, parseBytes),
		Tasks:   read(r, "TasksMax", -1, parseBytes),
		CPU:     read(r, "CPUQuota", -1, parsePercent),
		CPUPart: read(r, "CPUWeight", -1, parsePercent),
	}
}

// cgroups makes the cgroups of slices and services, by the paths that systemd
// would give them, so that Docker's cgroupfs driver puts containers into the
// same slices.
type cgroups struct {
	root    string // /sys/fs/cgroup
	unified bool   // version 2 alone
}

var controllers = []string{"memory", "pids", "cpu"}

func findCgroups() cgroups {
	const root = "/sys/fs/cgroup"
	_, err := os.Stat(filepath.Join(root, "cgroup.controllers"))
	return cgroups{root, err == nil}
}

// hierarchies returns the directories that stand for one cgroup.
func (c cgroups) hierarchies(path string) map[string]string {
	if c.unified {
		return map[string]string{"": filepath.Join(c.root, path)}
	}
	dirs := map[string]string{}
	for _, name := range controllers {
		dirs[name] = filepath.Join(c.root, name, path)
	}
	return dirs
}

// slicePath is the path of a slice below the root of a hierarchy.
func slicePath(slice string) string { return filepath.Join(units.Slices(slice)...) }

// set makes a cgroup with these limits, and those above it without. It tries
// everything, and returns what failed: a machine without a controller, or
// where cgroups can't be written, runs without those limits.
func (c cgroups) set(path string, l limits) error {
	var errs []error
	for controller, dir := range c.hierarchies(path) {
		if err := c.make(dir, path); err != nil {
			errs = append(errs, err)
			continue
		}
		for _, w := range c.writes(controller, l) {
			err := os.WriteFile(filepath.Join(dir, w.file), []byte(w.value), 0o644)
			if err != nil && !w.optional {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

func (c cgroups) make(dir, path string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil || !c.unified {
		return err
	}
	for at := c.root; at != dir; {
		if err := os.WriteFile(filepath.Join(at, "cgroup.subtree_control"), []byte("+memory +pids +cpu"), 0o644); err != nil {
			return err
		}
		rest, _ := filepath.Rel(at, dir)
		at = filepath.Join(at, first(rest))
	}
	return nil
}

func first(path string) string {
	for i, r := range path {
		if r == filepath.Separator {
			return path[:i]
		}
	}
	return path
}

type write struct {
	file, value string
	optional    bool
}

const quotaPeriod = 100000 // microseconds

// writes says which files take which limits.
func (c cgroups) writes(controller string, l limits) []write {
	var ws []write
	add := func(limit int64, file, value string, optional bool) {
		if limit >= 0 {
			ws = append(ws, write{file, value, optional})
		}
	}
	decimal := func(n int64) string { return strconv.FormatInt(n, 10) }
	quota := decimal(l.CPU * quotaPeriod / 100)
	if c.unified {
		add(l.Memory, "memory.max", decimal(l.Memory), false)
		add(l.Swap, "memory.swap.max", decimal(l.Swap), true)
		add(l.Tasks, "pids.max", decimal(l.Tasks), false)
		add(l.CPU, "cpu.max", fmt.Sprintf("%s %d", quota, quotaPeriod), false)
		add(l.CPUPart, "cpu.weight", decimal(l.CPUPart), true)
		return ws
	}
	switch controller {
	case "memory":
		// The limit with swap may never be below the one without: whichever
		// way both move, one of three writes in this order is what it takes.
		both := decimal(l.Memory + max(l.Swap, 0))
		if l.Swap >= 0 {
			add(l.Memory, "memory.memsw.limit_in_bytes", both, true)
		}
		add(l.Memory, "memory.limit_in_bytes", decimal(l.Memory), false)
		if l.Swap >= 0 {
			add(l.Memory, "memory.memsw.limit_in_bytes", both, true)
		}
	case "pids":
		add(l.Tasks, "pids.max", decimal(l.Tasks), false)
	case "cpu":
		add(l.CPU, "cpu.cfs_quota_us", quota, false)
		add(l.CPUPart, "cpu.shares", decimal(max(2, l.CPUPart*1024/100)), true)
	}
	return ws
}

// enter puts a process into a cgroup.
func (c cgroups) enter(path string, pid int) error {
	var errs []error
	for _, dir := range c.hierarchies(path) {
		errs = append(errs, os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644))
	}
	return errors.Join(errs...)
}

// remove removes a cgroup that is empty; one in use stays. It looks into every
// hierarchy: Docker makes the slices above its containers in all of them.
func (c cgroups) remove(path string) {
	dirs := []string{filepath.Join(c.root, path)}
	if !c.unified {
		more, _ := filepath.Glob(filepath.Join(c.root, "*", path))
		dirs = append(dirs, more...)
	}
	for _, dir := range dirs {
		syscall.Rmdir(dir)
	}
}
