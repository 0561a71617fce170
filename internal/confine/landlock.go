package confine

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// accesses are what Landlock can withhold of files, by the version of it that
// first could (landlock(7)).
var accesses = [...]uint64{
	1: unix.LANDLOCK_ACCESS_FS_MAKE_SYM<<1 - 1, // all up to that one
	2: unix.LANDLOCK_ACCESS_FS_REFER,
	3: unix.LANDLOCK_ACCESS_FS_TRUNCATE,
	5: unix.LANDLOCK_ACCESS_FS_IOCTL_DEV,
}

// scoped is the version that can also withhold abstract unix sockets of others.
const scoped = 6

// known is how much of the rules we know, in bytes. To an older kernel, what it
// does not know is zero, which it takes.
const known = unsafe.Offsetof(unix.LandlockRulesetAttr{}.Quiet_access_fs)

// readOnly leaves a process, in all its threads, the files below a directory to
// read, and no others to open, run, make or remove; those that are open stay so.
// It leaves out what the kernel is too old for; one without Landlock is no error.
func readOnly(dir string) error {
	version, _, errno := syscall.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno == unix.ENOSYS || errno == unix.EOPNOTSUPP {
		return nil
	}
	if errno != 0 {
		return fmt.Errorf("cannot ask for the version of Landlock: %w", errno)
	}
	rules := unix.LandlockRulesetAttr{}
	for since, access := range accesses {
		if uintptr(since) <= version {
			rules.Handled_access_fs |= access
		}
	}
	if version >= scoped {
		rules.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
	}
	set, _, errno := syscall.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&rules)), known, 0)
	if errno != 0 {
		return fmt.Errorf("cannot make rules for Landlock: %w", errno)
	}
	defer unix.Close(int(set))
	if err := allow(int(set), dir); err != nil {
		return err
	}
	for _, call := range [][3]uintptr{{unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1}, {unix.SYS_LANDLOCK_RESTRICT_SELF, set, 0}} {
		if _, _, errno := syscall.AllThreadsSyscall(call[0], call[1], call[2], 0); errno != 0 {
			return fmt.Errorf("cannot put Landlock's rules on all threads: %w", errno)
		}
	}
	return nil
}

// allow adds that what is below dir may be read.
func allow(set int, dir string) error {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil // and never will be
	}
	if err != nil {
		return fmt.Errorf("cannot open %s: %w", dir, err)
	}
	defer unix.Close(fd)
	beneath := unix.LandlockPathBeneathAttr{Allowed_access: unix.LANDLOCK_ACCESS_FS_READ_FILE | unix.LANDLOCK_ACCESS_FS_READ_DIR, Parent_fd: int32(fd)}
	_, _, errno := syscall.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(set), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&beneath)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("cannot make a rule for %s: %w", dir, errno)
	}
	return nil
}
