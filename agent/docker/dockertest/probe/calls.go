package main

import (
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	bad   = ^uintptr(0) // no descriptor, no pointer, no known number
	high  = 1 << 32     // beyond what the kernel looks at where it takes an int
	tiocs = 0x5412      // TIOCSTI
)

// call is a system call with arguments that do no harm where it is let
// through: most are wrong in a way that the kernel says by another error than
// a filter's.
type call struct {
	name string
	nr   uintptr
	args [6]uintptr
}

var calls = []call{
	{"ptrace", unix.SYS_PTRACE, [6]uintptr{unix.PTRACE_ATTACH, 1 << 30}},
	{"process_vm_readv", unix.SYS_PROCESS_VM_READV, [6]uintptr{1}},
	{"process_vm_writev", unix.SYS_PROCESS_VM_WRITEV, [6]uintptr{1}},
	{"process_madvise", unix.SYS_PROCESS_MADVISE, [6]uintptr{bad, 0, 0, 4}},
	{"pidfd_getfd", unix.SYS_PIDFD_GETFD, [6]uintptr{bad, 0, 0}},
	{"kcmp", unix.SYS_KCMP, [6]uintptr{1, 1, 99}},
	{"perf_event_open", unix.SYS_PERF_EVENT_OPEN, [6]uintptr{0}},
	{"userfaultfd", unix.SYS_USERFAULTFD, [6]uintptr{bad}},
	{"keyctl", unix.SYS_KEYCTL, [6]uintptr{99999}},
	{"add_key", unix.SYS_ADD_KEY, [6]uintptr{0, 0, 0, 0, 0}},
	{"request_key", unix.SYS_REQUEST_KEY, [6]uintptr{0}},
	{"mount", unix.SYS_MOUNT, [6]uintptr{0, 0, 0}},
	{"umount2", unix.SYS_UMOUNT2, [6]uintptr{0, 1 << 31}},
	{"open_tree", unix.SYS_OPEN_TREE, [6]uintptr{bad, 0, 0}},
	{"setns", unix.SYS_SETNS, [6]uintptr{bad, 0}},
	{"unshare", unix.SYS_UNSHARE, [6]uintptr{0}},
	{"clone of a namespace", unix.SYS_CLONE, [6]uintptr{unix.CLONE_NEWNS | unix.CLONE_FS}},
	{"clone3", unix.SYS_CLONE3, [6]uintptr{0, 0}},
	{"io_uring_setup", unix.SYS_IO_URING_SETUP, [6]uintptr{0, 0}},
	{"openat2", unix.SYS_OPENAT2, [6]uintptr{0, 0, 0, 0}},
	{"io_setup", unix.SYS_IO_SETUP, [6]uintptr{0, 0}},
	{"personality", unix.SYS_PERSONALITY, [6]uintptr{0xffffffff}},
	{"quotactl", unix.SYS_QUOTACTL, [6]uintptr{0xff, 0}},
	{"name_to_handle_at", unix.SYS_NAME_TO_HANDLE_AT, [6]uintptr{bad, 0, 0, 0, 0}},
	{"fanotify_init", unix.SYS_FANOTIFY_INIT, [6]uintptr{unix.FAN_REPORT_FID}},
	{"fanotify_mark", unix.SYS_FANOTIFY_MARK, [6]uintptr{bad, 1, 1, bad}},
	{"settimeofday", unix.SYS_SETTIMEOFDAY, [6]uintptr{1, 0}},
	{"clock_settime", unix.SYS_CLOCK_SETTIME, [6]uintptr{0, 1}},
	{"clock_adjtime", unix.SYS_CLOCK_ADJTIME, [6]uintptr{0, 1}},
	{"timer_create", unix.SYS_TIMER_CREATE, [6]uintptr{99}},
	{"memfd_create", unix.SYS_MEMFD_CREATE, [6]uintptr{0, 0}},
	{"seccomp", unix.SYS_SECCOMP, [6]uintptr{99}},
	{"landlock_create_ruleset", unix.SYS_LANDLOCK_CREATE_RULESET, [6]uintptr{0, 0, 1}},
	{"splice", unix.SYS_SPLICE, [6]uintptr{bad, 0, bad, 0, 1, 0}},
	{"vmsplice", unix.SYS_VMSPLICE, [6]uintptr{bad, 0, 0, 0}},
	{"setxattr", unix.SYS_SETXATTR, [6]uintptr{0, 0}},
	{"mknodat", unix.SYS_MKNODAT, [6]uintptr{bad, 0, unix.S_IFIFO}},
	{"shmget", unix.SYS_SHMGET, [6]uintptr{1, 0, 0}},
	{"msgget", unix.SYS_MSGGET, [6]uintptr{1, 0}},
	{"semget", unix.SYS_SEMGET, [6]uintptr{1, 0, 0}},
	{"mq_open", unix.SYS_MQ_OPEN, [6]uintptr{0}},
	{"set_mempolicy", unix.SYS_SET_MEMPOLICY, [6]uintptr{99}},
	{"capset", unix.SYS_CAPSET, [6]uintptr{0}},
	{"syncfs", unix.SYS_SYNCFS, [6]uintptr{bad}},
	{"sched_setscheduler", unix.SYS_SCHED_SETSCHEDULER, [6]uintptr{bad}},
	{"prctl of a filter", unix.SYS_PRCTL, [6]uintptr{unix.PR_SET_SECCOMP, 99}},
	{"ioctl TIOCSTI", unix.SYS_IOCTL, [6]uintptr{0, tiocs, 0}},
	{"ioctl TIOCSTI, disguised", unix.SYS_IOCTL, [6]uintptr{0, tiocs | high, 0}},
	{"socket AF_ALG", unix.SYS_SOCKET, [6]uintptr{unix.AF_ALG, unix.SOCK_SEQPACKET}},
	{"socket AF_VSOCK", unix.SYS_SOCKET, [6]uintptr{unix.AF_VSOCK, unix.SOCK_STREAM}},
	{"socket AF_VSOCK, disguised", unix.SYS_SOCKET, [6]uintptr{unix.AF_VSOCK | high, unix.SOCK_STREAM}},
	{"socket AF_TIPC", unix.SYS_SOCKET, [6]uintptr{unix.AF_TIPC, unix.SOCK_DGRAM}},
	{"socket of a device's events", unix.SYS_SOCKET, [6]uintptr{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_KOBJECT_UEVENT}},
	{"socket MPTCP", unix.SYS_SOCKET, [6]uintptr{unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP}},
	{"socket SCTP", unix.SYS_SOCKET, [6]uintptr{unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_SCTP}},
	{"socket DCCP", unix.SYS_SOCKET, [6]uintptr{unix.AF_INET6, unix.SOCK_DCCP, 0}},
	{"socketpair AF_INET", unix.SYS_SOCKETPAIR, [6]uintptr{unix.AF_INET, unix.SOCK_STREAM}},
}

// needed are calls that have to go through.
var needed = []call{
	{"socket TCP", unix.SYS_SOCKET, [6]uintptr{unix.AF_INET, unix.SOCK_STREAM | unix.SOCK_CLOEXEC, 0}},
	{"socket UDP over IPv6", unix.SYS_SOCKET, [6]uintptr{unix.AF_INET6, unix.SOCK_DGRAM | unix.SOCK_NONBLOCK, unix.IPPROTO_UDP}},
	{"socket of routes", unix.SYS_SOCKET, [6]uintptr{unix.AF_NETLINK, unix.SOCK_RAW, unix.NETLINK_ROUTE}},
	{"socket AF_UNIX", unix.SYS_SOCKET, [6]uintptr{unix.AF_UNIX, unix.SOCK_STREAM, 0}},
	{"eventfd2", unix.SYS_EVENTFD2, [6]uintptr{}},
	{"timerfd_create", unix.SYS_TIMERFD_CREATE, [6]uintptr{unix.CLOCK_MONOTONIC}},
	{"inotify_init1", unix.SYS_INOTIFY_INIT1, [6]uintptr{}},
}

// try makes all calls and names their errors; "" means that one worked. What
// they open stays open.
func try(calls []call) map[string]string {
	runtime.LockOSThread()
	got := map[string]string{}
	for _, c := range calls {
		_, _, errno := syscall.RawSyscall6(c.nr, c.args[0], c.args[1], c.args[2], c.args[3], c.args[4], c.args[5])
		got[c.name] = ""
		if errno != 0 {
			got[c.name] = unix.ErrnoName(errno)
		}
	}
	return got
}

// cost is what a cheap call takes, in nanoseconds: the best of ten rounds.
func cost() float64 {
	const rounds, n = 10, 100_000
	best := time.Duration(1<<63 - 1)
	for range rounds {
		start := time.Now()
		for range n {
			syscall.RawSyscall(unix.SYS_GETPPID, 0, 0, 0)
		}
		best = min(best, time.Since(start))
	}
	return float64(best.Nanoseconds()) / n
}
