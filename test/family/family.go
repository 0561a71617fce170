// Package family ends processes together with the children that would outlive
// them: a cell's, which in a container end with PID 1, have sessions of their
// own and go on when a test kills their cell on the bare machine.
package family

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// End kills a process and its children, and waits for the process.
func End(cmd *exec.Cmd) {
	children := Children(cmd.Process.Pid)
	_ = cmd.Process.Kill() // it may have ended
	_ = cmd.Wait()
	for _, pid := range children {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// Children are the process ids of a process's children (proc_pid_task(5)).
func Children(pid int) (all []int) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, f := range files {
		data, _ := os.ReadFile(f)
		for _, field := range strings.Fields(string(data)) {
			if child, err := strconv.Atoi(field); err == nil {
				all = append(all, child)
			}
		}
	}
	return all
}
