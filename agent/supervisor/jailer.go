package supervisor

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// jailerName is the binary that becomes jails, beside our own.
const jailerName = "bulkhead-jail"

// jailerFD is above every descriptor that a child is handed.
const jailerFD = 512

// jailerBinary is what becomes jails: bulkhead-jail if it stands beside our
// own binary, else that. It is opened once, so that another version put in
// its place meanwhile doesn't get our orders.
type jailerBinary int

func openJailer() (jailerBinary, error) {
	path := "/proc/self/exe"
	if exe, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(exe), jailerName)
		if _, err := os.Stat(beside); err == nil {
			path = beside
		}
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("cannot open %s: %w", path, err)
	}
	defer unix.Close(fd)
	high, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, jailerFD)
	if err != nil {
		return -1, fmt.Errorf("cannot keep %s: %w", path, err)
	}
	return jailerBinary(high), nil
}

// path names the binary for a child of ours that executes it.
func (h jailerBinary) path() string { return fmt.Sprintf("/proc/self/fd/%d", int(h)) }

func (h jailerBinary) close() { unix.Close(int(h)) }
