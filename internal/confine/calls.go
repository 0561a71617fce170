package confine

import (
	"strings"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"
)

// left are the calls whose arguments do not matter: what Go's runtime and its
// packages net and os do in a server of unix sockets.
const left = `
	read write readv writev pread64 pwrite64 lseek close fcntl
	openat newfstatat fstat faccessat faccessat2 readlinkat getdents64
	epoll_create1 epoll_ctl epoll_pwait eventfd2
	bind connect accept4 getsockname getpeername getsockopt setsockopt shutdown sendmsg recvmsg sendto recvfrom
	munmap madvise futex
	exit exit_group rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack restart_syscall
	getpid gettid getuid geteuid getgid getegid getrandom uname
	clock_gettime clock_nanosleep nanosleep sched_yield sched_getaffinity`

// thread is how Go's runtime makes one (clone(2)); a process is made otherwise.
const thread = unix.CLONE_VM | unix.CLONE_FS | unix.CLONE_FILES | unix.CLONE_SIGHAND | unix.CLONE_SYSVSEM | unix.CLONE_THREAD

// guarded are the calls that are left with some arguments only. Each condition
// names what is allowed: see internal/seccomp.
func guarded(pid int) []seccomp.NameWithConditions {
	is := func(name string, arg uint32, value uint64) seccomp.NameWithConditions {
		return seccomp.NameWithConditions{Name: name, Conditions: []seccomp.Condition{{Argument: arg, Operation: seccomp.Equal, Value: value}}}
	}
	lacks := func(name string, arg uint32, bits uint64) seccomp.NameWithConditions {
		return seccomp.NameWithConditions{Name: name, Conditions: []seccomp.Condition{{Argument: arg, Operation: seccomp.BitsNotSet, Value: bits}}}
	}
	return []seccomp.NameWithConditions{
		is("socket", 0, unix.AF_UNIX),
		is("clone", 0, thread), is("clone", 0, thread|unix.CLONE_SETTLS), // arm64, amd64
		is("tgkill", 0, uint64(pid)), is("kill", 0, uint64(pid)), // to interrupt a thread, and to die of a signal
		lacks("mmap", 2, unix.PROT_EXEC), lacks("mprotect", 2, unix.PROT_EXEC),
		is("prctl", 0, unix.PR_SET_VMA), // names of memory
	}
}

// filter leaves a process those calls, in all its threads; all others fail with
// EPERM.
func filter(pid int) error {
	info, err := arch.GetInfo("")
	if err != nil {
		return err
	}
	var names []string
	for _, name := range strings.Fields(left) {
		if _, known := info.SyscallNames[name]; known {
			names = append(names, name)
		}
	}
	return seccomp.LoadFilter(seccomp.Filter{
		NoNewPrivs: true, Flag: seccomp.FilterFlagTSync,
		Policy: seccomp.Policy{DefaultAction: seccomp.ActionErrno, Syscalls: []seccomp.SyscallGroup{
			{Action: seccomp.ActionAllow, Names: names},
			{Action: seccomp.ActionAllow, NamesWithCondtions: guarded(pid)},
		}},
	})
}
