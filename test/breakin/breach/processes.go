package breach

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

var processes = []attack{
	{"see other people's processes", func(o *Orders) error {
		return first([]int{o.Neighbour, o.Root}, func(pid int) error {
			return touch(fmt.Sprintf("/proc/%d/cmdline", pid))
		})
	}},
	{"list the host's processes", func(o *Orders) error {
		entries, err := os.ReadDir("/proc")
		if err != nil {
			return err
		}
		for _, e := range entries {
			if pid, err := strconv.Atoi(e.Name()); err == nil && pid == o.Neighbour {
				return nil
			}
		}
		return errEmpty
	}},
	{"trace a neighbour's process", func(o *Orders) error {
		_, _, e := syscall.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(o.Neighbour), 0, 0, 0, 0)
		if e == 0 {
			syscall.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_DETACH, uintptr(o.Neighbour), 0, 0, 0, 0)
		}
		return errno(e)
	}},
	{"read a neighbour's memory", func(o *Orders) error {
		b := make([]byte, 8)
		local := []unix.Iovec{{Base: &b[0], Len: 8}}
		_, err := unix.ProcessVMReadv(o.Neighbour, local, []unix.RemoteIovec{{Base: 0x400000, Len: 8}}, 0)
		if err != nil && !errors.Is(err, unix.EFAULT) {
			return first([]string{fmt.Sprintf("/proc/%d/mem", o.Neighbour), fmt.Sprintf("/proc/%d/environ", o.Neighbour)}, func(path string) error {
				if touched := touch(path); touched == nil {
					return nil
				}
				return err
			})
		}
		return nil
	}},
	{"take a neighbour's descriptor", func(o *Orders) error {
		fd, err := unix.PidfdOpen(o.Neighbour, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		_, err = unix.PidfdGetfd(fd, 0, 0)
		return err
	}},
	{"signal a neighbour's process", func(o *Orders) error { return signal(o.Neighbour) }},
	{"signal root's process", func(o *Orders) error { return signal(o.Root) }},
	{"limit a neighbour's process", func(o *Orders) error {
		var was unix.Rlimit
		return unix.Prlimit(o.Neighbour, unix.RLIMIT_CORE, nil, &was)
	}},
}

// signal sends the signal that does nothing, in each way that there is.
func signal(pid int) error {
	return first([]func() error{
		func() error { return unix.Kill(pid, 0) },
		func() error { return unix.Tgkill(pid, pid, 0) },
		func() error {
			_, _, e := syscall.RawSyscall(unix.SYS_TKILL, uintptr(pid), 0, 0)
			return errno(e)
		},
		func() error {
			fd, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			return unix.PidfdSendSignal(fd, 0, nil, 0)
		},
	}, func(way func() error) error { return way() })
}

var programs = []attack{
	{"run a program of the host", func(*Orders) error {
		return first([]string{"/bin/true", "/usr/bin/true", "/bin/sh", "/usr/bin/env"}, func(path string) error { return run(path) })
	}},
	{"run a file that he wrote", func(*Orders) error {
		return first(append(places, "/run/cell"), func(dir string) error {
			path := filepath.Join(dir, "breach-program")
			if err := os.WriteFile(path, program, 0o755); err != nil {
				return err
			}
			defer os.Remove(path)
			return run(path)
		})
	}},
	{"run a program that is no file", func(*Orders) error {
		fd, err := unix.MemfdCreate("breach", 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if _, err := unix.Write(fd, program); err != nil {
			return err
		}
		return run(fmt.Sprintf("/proc/self/fd/%d", fd))
	}},
	{"write memory and then run it", func(*Orders) error {
		b, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
		if err != nil {
			return err
		}
		defer unix.Munmap(b)
		return unix.Mprotect(b, unix.PROT_READ|unix.PROT_EXEC)
	}},
	{"have memory that is written and run at once", func(*Orders) error {
		b, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE|unix.PROT_EXEC, unix.MAP_ANON|unix.MAP_PRIVATE)
		if err == nil {
			unix.Munmap(b)
		}
		return err
	}},
	{"start 200 processes", func(*Orders) error {
		return bomb(200)
	}},
	{"open 17,000 files", func(*Orders) error {
		var fds []int
		defer func() {
			for _, fd := range fds {
				unix.Close(fd)
			}
		}()
		for range 17_000 {
			fd, err := unix.FcntlInt(1, unix.F_DUPFD_CLOEXEC, 0)
			if err != nil {
				return err
			}
			fds = append(fds, fd)
		}
		return nil
	}},
}

// run starts a program and waits for its end.
func run(path string) error {
	pid, err := syscall.ForkExec(path, []string{path}, &syscall.ProcAttr{})
	if err != nil {
		return err
	}
	_, err = syscall.Wait4(pid, nil, 0, nil)
	return err
}

// page is memory that a process shares with those that it makes, for it may have
// no other way to hear from them.
func page() ([]uint32, error) {
	b, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return unsafe.Slice((*uint32)(unsafe.Pointer(&b[0])), 1024), nil
}

// child makes a process as clone's flags say, has it do something, which must
// be raw system calls only, and returns what that said.
func child(flags uintptr, do func() syscall.Errno) error {
	shared, err := page()
	if err != nil {
		return err
	}
	// Go's scheduler may want the thread back at the very moment that it is copied;
	// the copy then waits for other threads, which it does not have. It is tried again.
	for range 10 {
		pid, _, e := syscall.RawSyscall6(unix.SYS_CLONE, flags|uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		if pid == 0 && e == 0 {
			atomic.StoreUint32(&shared[0], 1+uint32(do()))
			for {
				syscall.RawSyscall(unix.SYS_EXIT, 0, 0, 0)
			}
		}
		if e != 0 {
			return e
		}
		for give := time.Now().Add(time.Second); atomic.LoadUint32(&shared[0]) == 0 && time.Now().Before(give); {
			runtime.Gosched()
		}
		says := atomic.LoadUint32(&shared[0])
		if says == 0 {
			syscall.Kill(int(pid), syscall.SIGKILL)
		}
		syscall.Wait4(int(pid), nil, 0, nil)
		if says != 0 {
			return errno(syscall.Errno(says - 1))
		}
	}
	return errors.New("a process that it makes says nothing")
}

// bomb makes processes until it may not, or n, and lets all of them go.
func bomb(n int) error {
	shared, err := page()
	if err != nil {
		return err
	}
	moment := unix.Timespec{Nsec: 1e6}
	var pids []int
	var failed error
	for range n {
		pid, _, e := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
		if pid == 0 && e == 0 {
			for atomic.LoadUint32(&shared[0]) == 0 {
				syscall.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&moment)), 0, 0)
			}
			for {
				syscall.RawSyscall(unix.SYS_EXIT, 0, 0, 0)
			}
		}
		if e != 0 {
			failed = e
			break
		}
		pids = append(pids, int(pid))
	}
	atomic.StoreUint32(&shared[0], 1)
	for _, pid := range pids {
		syscall.Wait4(pid, nil, 0, nil)
	}
	return failed
}
