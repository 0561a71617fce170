package breach

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

var privileges = []attack{
	{"have a capability", func(*Orders) error {
		all := [2]unix.CapUserData{{Effective: ^uint32(0), Permitted: ^uint32(0), Inheritable: ^uint32(0)}}
		err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &all[0])
		text, readErr := os.ReadFile("/proc/self/status")
		if readErr == nil && !strings.Contains(string(text), "CapEff:\t0000000000000000") {
			return nil
		}
		if err == nil {
			err = errors.New("it has none")
		}
		return err
	}},
	{"become a neighbour's user", func(o *Orders) error {
		other := uintptr(400001) // of the cells' users
		if os.Getuid() == int(other) {
			other++
		}
		return child(0, func() syscall.Errno {
			_, _, e := syscall.RawSyscall(unix.SYS_SETRESUID, other, other, other)
			return e
		})
	}},
	{"make a user namespace", func(*Orders) error { return child(unix.CLONE_NEWUSER, nothing) }},
	{"make a mount namespace", func(*Orders) error { return child(unix.CLONE_NEWNS, nothing) }},
	{"make a network namespace", func(*Orders) error { return child(unix.CLONE_NEWNET, nothing) }},
	{"enter the namespaces of PID 1", func(o *Orders) error {
		return first([]string{"/proc/1/ns/mnt", fmt.Sprintf("/proc/%d/ns/mnt", o.Root), "/proc/self/ns/mnt"}, func(path string) error {
			fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return child(0, func() syscall.Errno {
				_, _, e := syscall.RawSyscall(unix.SYS_SETNS, uintptr(fd), 0, 0)
				return e
			})
		})
	}},
	{"mount", func(*Orders) error {
		err := unix.Mount("tmpfs", "/proc", "tmpfs", 0, "")
		if err == nil {
			unix.Unmount("/proc", unix.MNT_DETACH)
		}
		return err
	}},
	{"make a mount writable", func(*Orders) error {
		return first([]string{"/", "/functions", "/proc", "/runner"}, func(path string) error {
			return unix.Mount("", path, "", unix.MS_REMOUNT|unix.MS_BIND, "")
		})
	}},
	{"take a mount away", func(*Orders) error {
		return child(0, func() syscall.Errno {
			_, _, e := syscall.RawSyscall(unix.SYS_UMOUNT2, ptr("/sys\x00"), unix.MNT_DETACH, 0)
			return e
		})
	}},
	{"change the root", func(*Orders) error {
		return child(0, func() syscall.Errno {
			_, _, e := syscall.RawSyscall(unix.SYS_CHROOT, ptr("/proc\x00"), 0, 0)
			return e
		})
	}},
	{"be scheduled before everybody", func(*Orders) error {
		return child(0, func() syscall.Errno {
			_, _, e := syscall.RawSyscall(unix.SYS_SETPRIORITY, unix.PRIO_PROCESS, 0, ^uintptr(19))
			return e
		})
	}},
	{"lift his own limits", func(*Orders) error {
		big := unix.Rlimit{Cur: 1 << 19, Max: 1 << 19}
		return unix.Prlimit(0, unix.RLIMIT_NOFILE, &big, nil)
	}},
}

func nothing() syscall.Errno { return 0 }
