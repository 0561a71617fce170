package cell

import (
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Harden makes this process as unassailable as its user allows: nobody may
// trace it or read its memory (PR_SET_DUMPABLE, prctl(2)), no signal but
// SIGKILL from outside touches it, new files are closed to others only where
// asked for, and orphans come to it even when it is not PID 1.
func Harden() error {
	for i := syscall.Signal(1); i <= 64; i++ {
		switch i {
		case syscall.SIGCHLD, syscall.SIGTERM, syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGURG, syscall.SIGPROF:
		default:
			signal.Ignore(i)
		}
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("cannot make the cell undumpable: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("cannot become the reaper of orphans: %w", err)
	}
	unix.Umask(0o022)
	return nil
}

// ownUsers tells whether this process may give its children users of their
// own: it needs CAP_SETUID, CAP_SETGID and, to end them, CAP_KILL.
func ownUsers() bool {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(b), "CapEff:\t")
	line, _, _ := strings.Cut(rest, "\n")
	caps, err := strconv.ParseUint(line, 16, 64)
	const want = 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID | 1<<unix.CAP_KILL
	return err == nil && caps&want == want
}

// userOf gives the n-th process of the cell that runs as uid a user of its
// own: a thousand for each instance's uid, beyond the range of those.
func userOf(uid, n int) uint32 { return uint32(1_000_000 + uid%1_000_000*1000 + n%1000) }
