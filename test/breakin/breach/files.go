package breach

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// errEmpty is a file that could be read, without the secret.
var errEmpty = errors.New("nothing of it there")

var files = []attack{
	{"read a neighbour's keys and code by their paths", func(o *Orders) error {
		return first(o.Files, o.read)
	}},
	{"read what every user of the host may read", func(o *Orders) error {
		return first(o.Readable, o.read)
	}},
	{"the same by way of another process's root", func(o *Orders) error {
		return first([]int{1, o.Root, o.Neighbour}, func(pid int) error {
			return first(append(o.Readable, o.Files...), func(path string) error {
				return o.read(fmt.Sprintf("/proc/%d/root%s", pid, path))
			})
		})
	}},
	{"the same by leaving the chroot through a descriptor", func(o *Orders) error {
		root, err := unix.Open("/", unix.O_PATH, 0)
		if err != nil {
			return err
		}
		defer unix.Close(root)
		return child(0, func() syscall.Errno {
			return leave(root)
		})
	}},
	{"open files by handle, past all paths", func(*Orders) error {
		mount, err := unix.Open("/", unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		defer unix.Close(mount)
		fd, err := unix.OpenByHandleAt(mount, unix.NewFileHandle(1, []byte{2, 0, 0, 0, 0, 0, 0, 0}), unix.O_RDONLY)
		if errors.Is(err, unix.ESTALE) { // it looked
			return nil
		}
		if err == nil {
			unix.Close(fd)
		}
		return err
	}},
	{"read the kernel's memory or the machine's disk", func(o *Orders) error {
		return first([]string{"/proc/kcore", "/dev/mem", "/dev/vda", "/dev/sda", "/dev/loop0"}, touch)
	}},
}

// read gets through where the secret is.
func (o *Orders) read(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !strings.Contains(string(text), o.Secret) {
		return errEmpty
	}
	return nil
}

// touch gets through where something can be read.
func touch(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.Read(make([]byte, 64))
	return err
}

// leave does the oldest trick: chroot to below, and climb from a directory that
// is not below. It gets through where PID 1's binary of the host is found.
func leave(root int) syscall.Errno {
	if _, _, e := syscall.RawSyscall(unix.SYS_CHROOT, ptr("/proc\x00"), 0, 0); e != 0 {
		return e
	}
	if _, _, e := syscall.RawSyscall(unix.SYS_FCHDIR, uintptr(root), 0, 0); e != 0 {
		return e
	}
	for range 16 {
		syscall.RawSyscall(unix.SYS_CHDIR, ptr("..\x00"), 0, 0)
	}
	_, _, e := syscall.RawSyscall6(unix.SYS_FACCESSAT, at, ptr("usr/lib/systemd/systemd\x00"), 0, 0, 0, 0)
	return e
}

const at = ^uintptr(99) // AT_FDCWD

func ptr(s string) uintptr { return uintptr(unsafe.Pointer(unsafe.StringData(s))) }

// places are where something could be written.
var places = []string{"/", "/etc", "/functions", "/cell", "/agent", "/run", "/var", "/tmp", "/var/tmp", "/dev", "/dev/shm", "/dev/mqueue", "/root", "/home", "/opt/bulkhead", "/var/lib/bulkhead", "/run/bulkhead"}

var writes = []attack{
	{"keep a file", func(*Orders) error {
		return first(places, func(dir string) error {
			if dir == "/tmp" && inCell() {
				return errors.New("his own")
			}
			path := filepath.Join(dir, "breach-was-here")
			err := os.WriteFile(path, []byte("breach"), 0o755)
			if err == nil {
				os.Remove(path)
			}
			return err
		})
	}},
	{"set the kernel's parameters", func(*Orders) error {
		return first([]string{"/proc/sys/kernel/core_pattern", "/proc/sys/vm/drop_caches", "/proc/sysrq-trigger"}, open(os.O_WRONLY))
	}},
	{"change cgroups", func(*Orders) error {
		return first([]string{"/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/memory/cgroup.procs", "/sys/fs/cgroup/pids/cgroup.procs", "/sys/fs/cgroup/memory.max"}, open(os.O_WRONLY))
	}},
	{"be killed last when memory runs out", func(*Orders) error {
		return os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(-1000)), 0)
	}},
	{"make a device", func(*Orders) error {
		return first(places, func(dir string) error {
			path := filepath.Join(dir, "breach-null")
			err := unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3)))
			if err == nil {
				os.Remove(path)
			}
			return err
		})
	}},
}

func open(flags int) func(string) error {
	return func(path string) error {
		f, err := os.OpenFile(path, flags, 0)
		if err == nil {
			f.Close()
		}
		return err
	}
}

// inCell tells whether this is a cell's container, where /tmp is the tenant's.
func inCell() bool {
	_, err := os.Stat("/run/cell")
	return err == nil
}
