package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ticks are CPU time as the kernel counts it, 100 a second (USER_HZ).
type ticks struct{ user, system int }

func (t ticks) all() int { return t.user + t.system }

func (t ticks) minus(o ticks) ticks { return ticks{t.user - o.user, t.system - o.system} }

// processTicks is a process's user and system time (proc_pid_stat(5)).
func processTicks(pid int) ticks {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ticks{}
	}
	f := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return ticks{user, system}
}

// machineTicks is the time that all cores have not been idle (proc_stat(5)).
func machineTicks() int {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(data), "\n")
	busy := 0
	for i, f := range strings.Fields(line)[1:] {
		if n, _ := strconv.Atoi(f); i != 3 && i != 4 && i < 8 { // neither idle nor waiting for disks
			busy += n
		}
	}
	return busy
}

// tickMicros converts to microseconds.
func tickMicros(ticks int) float64 { return float64(ticks) * 10_000 }

var pssPattern = regexp.MustCompile(`(?m)^Pss:\s+(\d+) kB`)

// pss is a process's own pages and its share of those that others use as well,
// in KiB (proportional set size, proc_pid_smaps(5)).
func pss(pid int) int {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0
	}
	return int(number(pssPattern, data))
}

// children of all threads of a process.
func children(pid int) (pids []int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		text, _ := os.ReadFile(list)
		for _, child := range strings.Fields(string(text)) {
			if n, err := strconv.Atoi(child); err == nil {
				pids = append(pids, n)
			}
		}
	}
	return pids
}

// nodes are a cell's Node processes: first the one that has worked most, the
// function's, then spares.
func nodes(cell int) []int {
	pids := children(cell)
	slices.SortFunc(pids, func(a, b int) int { return processTicks(b).all() - processTicks(a).all() })
	return pids
}

func parent(pid int) int {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	n, _ := strconv.Atoi(f[1])
	return n
}

// servicePID is the process of a unit, whoever runs it; 0: it has none.
func (c *cluster) servicePID(unit string) int {
	if data, err := os.ReadFile(c.dir + "/run/supervisor/started/" + unit); err == nil {
		var note struct{ Process struct{ PID int } }
		if json.Unmarshal(data, &note) == nil && processTicks(note.Process.PID) != (ticks{}) || note.Process.PID > 0 && alive(note.Process.PID) {
			return note.Process.PID
		}
	}
	if _, err := exec.LookPath("systemctl"); err != nil {
		return 0
	}
	out, _ := exec.Command("systemctl", "show", "--property=MainPID", "--value", unit).Output()
	pid, _ := strconv.Atoi(strings.TrimSpace(string(out)))
	return pid
}

func alive(pid int) bool {
	_, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
	return err == nil
}

// frozen says whether a process's cgroup is (cgroups(7)).
func frozen(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		part := strings.SplitN(strings.TrimSpace(line), ":", 3)
		file, want := "", ""
		switch {
		case len(part) == 3 && part[1] == "freezer":
			file, want = filepath.Join("/sys/fs/cgroup/freezer", part[2], "freezer.state"), "FROZEN"
		case len(part) == 3 && part[0] == "0":
			file, want = filepath.Join("/sys/fs/cgroup", part[2], "cgroup.freeze"), "1"
		}
		if state, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(state)) == want {
			return true
		}
	}
	return false
}

func containerPID(ctx context.Context, name string) (int, error) {
	out, err := exec.CommandContext(ctx, "docker", "inspect", "--format", "{{.State.Pid}}", name).Output()
	if err != nil {
		return 0, fmt.Errorf("cannot inspect %s: %w", name, err)
	}
	return strconv.Atoi(strings.TrimSpace(string(out)))
}

// await looks again and again until what is wanted is so.
func await(ctx context.Context, what string, patience time.Duration, so func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for !so() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited %v, and still not %s", patience, what)
		case <-look.C:
		}
	}
	return nil
}
