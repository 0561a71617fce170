package cells_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead/agent/cells"
)

// groups are the directories of a cell's cgroups that have to do with CPU.
func groups(t *testing.T, c cells.Cell) (dirs []string) {
	t.Helper()
	for _, pattern := range []string{"cpu", "cpuacct", ""} {
		found, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup", pattern, "bulkhead.slice/bulkhead-_cellstest.slice", c.Container))
		dirs = append(dirs, found...)
	}
	if len(dirs) == 0 {
		t.Fatal("the cell's cgroup is not found")
	}
	return dirs
}

// behind says whether a cell runs behind others.
func behind(t *testing.T, c cells.Cell) bool {
	t.Helper()
	for _, dir := range groups(t, c) {
		if text, err := os.ReadFile(filepath.Join(dir, "cpu.idle")); err == nil {
			return strings.TrimSpace(string(text)) == "1"
		}
	}
	t.Skip("this kernel has no cpu.idle")
	return false
}

func TestACellThatBurnsRunsBehindUntilItIsCalm(t *testing.T) {
	h := newHouse(t, "weigh", cells.Pool{Min: 1, Max: 2})
	h.await("a blank cell waits, frozen", blank(1))
	c := h.take("acme.0")
	if behind(t, c) {
		t.Error("a cell that was just taken runs behind others")
	}
	ctx, cancel := context.WithCancel(t.Context())
	weighing := make(chan struct{})
	go func() { defer close(weighing); h.Weigh(ctx) }()
	defer func() { cancel(); <-weighing }()

	loop := exec.Command("sh", "-c", "while :; do :; done")
	if err := loop.Start(); err != nil {
		t.Fatal(err)
	}
	defer loop.Wait()
	defer loop.Process.Kill()
	for _, dir := range groups(t, c) {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), fmt.Append(nil, loop.Process.Pid), 0); err != nil {
			t.Fatal(err)
		}
	}
	h.await("the cell that burns runs behind", func([]cells.Container) bool { return behind(t, c) })
	loop.Process.Kill()
	h.await("the calm cell is as heavy as any", func([]cells.Container) bool { return !behind(t, c) })
	if other := h.take("globex.0"); behind(t, other) {
		t.Error("the next cell runs behind because of another")
	}
}
