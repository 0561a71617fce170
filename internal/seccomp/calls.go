package seccomp

import "strings"

// group is calls that are allowed, or refused in the same way, for one reason.
type group struct {
	why   string
	calls string // names, between white space
}

func (g group) names() []string { return strings.Fields(g.calls) }

// allowed are the calls whose arguments do not matter. Many are there twice:
// glibc on amd64 has the old call where arm64 only ever had the new one. A name
// that a machine does not know means nothing there.
var allowed = []group{
	{"memory: malloc, V8's heap and its compiler, which needs pages that are written and then run; keys and barriers, with which V8 protects its code, and Go its scheduler",
		`brk mmap munmap mremap mprotect madvise mincore msync mlock munlock
		membarrier pkey_alloc pkey_free pkey_mprotect`},
	{"threads: start, wait, end, be scheduled; clone is in guarded",
		`futex set_robust_list set_tid_address rseq gettid tgkill exit exit_group arch_prctl restart_syscall
		sched_yield sched_getaffinity sched_getparam sched_getscheduler sched_get_priority_max sched_get_priority_min
		getpriority setpriority getcpu`},
	{"processes: the cell starts Node, and a tenant may start what he finds; pidfds, by which Go waits for children and signals them",
		`execve fork vfork wait4 waitid kill pidfd_open pidfd_send_signal
		getpid getppid getpgid getpgrp setpgid getsid setsid umask getrusage prlimit64 getrlimit setrlimit times`},
	{"users: asked by Node when it starts; set by a cell that may give processes users of their own, which all others lack the capability for",
		`getuid geteuid getgid getegid getgroups getresuid getresgid setuid setgid setgroups capget`},
	{"signals: handlers, masks, stacks, waiting for one",
		`rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigsuspend rt_sigtimedwait sigaltstack pause`},
	{"time: read it and sleep; not set it",
		`clock_gettime clock_getres clock_nanosleep nanosleep gettimeofday time
		timerfd_create timerfd_settime timerfd_gettime`},
	{"the machine: its name and size, randomness",
		`uname sysinfo getrandom`},
	{"open files: read, write, seek, lock, copy, keep",
		`read write readv writev pread64 pwrite64 preadv pwritev lseek close close_range dup dup2 dup3 fcntl flock
		fsync fdatasync ftruncate truncate fallocate fadvise64 copy_file_range sendfile pipe pipe2`},
	{"names of files: all of node:fs",
		`open openat creat access faccessat faccessat2 stat lstat fstat newfstatat statx statfs fstatfs
		getcwd chdir fchdir getdents64 mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 link linkat symlink symlinkat
		readlink readlinkat chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat utimensat`},
	{"waiting for many things: libuv, Go's netpoller, C libraries; fs.watch",
		`epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait poll ppoll select pselect6 eventfd eventfd2
		inotify_init inotify_init1 inotify_add_watch inotify_rm_watch`},
	{"sockets once they are there; which ones is in guarded",
		`bind connect listen accept accept4 shutdown getsockname getpeername getsockopt setsockopt
		sendto recvfrom sendmsg recvmsg sendmmsg recvmmsg`},
}

// absent are calls that libraries try, and do without where a kernel does not
// know them: they look at ENOSYS, and take EPERM for a failure.
var absent = []group{
	{"threads: its flags are in memory, where no filter sees them; glibc falls back to clone", `clone3`},
	{"libuv falls back to its threads and epoll; of all of the kernel, this is the part with the most holes, and it would make calls past this list",
		`io_uring_setup io_uring_enter io_uring_register`},
	{"later forms of calls that are allowed; C libraries and Go's standard library fall back to those",
		`openat2 epoll_pwait2 preadv2 pwritev2 mlock2 execveat`},
	{"newer than the list: a kernel may know them, and libraries will ask",
		`futex_waitv futex_wake futex_wait futex_requeue map_shadow_stack mseal cachestat`},
}
