package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// lockUp lets one "up" use a state directory, and says who has it.
func lockUp(state string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(state, "up.pid"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot lock %s: %w", state, err)
	}
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		pid, _ := io.ReadAll(f)
		f.Close()
		return nil, fail(exitFailure, "use it as it is, or end it first: bulkhead down", "bulkhead is up already, as process %s", strings.Fields(string(pid) + " ?")[0])
	}
	if err := errors.Join(f.Truncate(0), writeAt(f, strconv.Itoa(os.Getpid())+"\n")); err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot note our process id: %w", err)
	}
	return func() { f.Truncate(0); f.Close() }, nil
}

func writeAt(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}

// markReady notes, for scripts that wait, that everything runs.
func markReady(state string) error {
	f, err := os.OpenFile(filepath.Join(state, "up.pid"), os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("cannot note that we are ready: %w", err)
	}
	defer f.Close()
	_, err = f.WriteString("ready\n")
	return err
}

// readUp returns the process that holds the lock; 0 when none does.
func readUp(state string) (pid int, ready bool) {
	f, err := os.Open(filepath.Join(state, "up.pid"))
	if err != nil {
		return 0, false
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) == nil {
		return 0, false
	}
	data, _ := io.ReadAll(f)
	lines := strings.Fields(string(data))
	if len(lines) == 0 {
		return 0, false
	}
	pid, _ = strconv.Atoi(lines[0])
	return pid, len(lines) > 1
}
