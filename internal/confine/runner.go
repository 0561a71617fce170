package confine

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// limits are a runner's own, of open files and of bytes of a core.
var limits = map[int]uint64{unix.RLIMIT_NOFILE: 16384, unix.RLIMIT_CORE: 0}

// Runner confines a runner that has its socket and its credential. From then on
// nobody but root may trace it or read its memory; of all files it reads those
// below functions, and opens no others; it makes unix sockets and no others,
// threads and no processes; it runs no program, and no memory that is not code
// yet; it signals itself alone. There is no way back.
func Runner(functions string) error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("cannot make the runner undumpable: %w", err)
	}
	for resource, most := range limits {
		if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: most, Max: most}); err != nil {
			return fmt.Errorf("cannot bound itself: %w", err)
		}
	}
	if err := readOnly(functions); err != nil {
		return fmt.Errorf("cannot give up files: %w", err)
	}
	if err := filter(unix.Getpid()); err != nil {
		return fmt.Errorf("cannot give up system calls: %w", err)
	}
	return nil
}
