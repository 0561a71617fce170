package breach

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// part is a system call into a part of the kernel. Its arguments are right, or
// do no harm where the call is let through: a right that is lacking is looked at
// before them.
type part struct {
	name string
	nr   uintptr
	args [6]uintptr
}

var (
	zeros   [256]byte // io_uring_params
	mapAttr = [8]uint32{unix.BPF_MAP_TYPE_ARRAY, 4, 4, 1}
	perf    = unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_CPU_CLOCK, Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{}))}
	user    = []byte("user\x00")
	payload = []byte("breach\x00")
	slash   = []byte("/\x00")
	urgent  = [1]int32{1} // sched_param
)

func at0(p unsafe.Pointer) uintptr { return uintptr(p) }

// parts are those that nobody here needs; who gets another answer than a
// refusal has got through.
func parts() []attack {
	bad := ^uintptr(0)
	var all []attack
	for _, p := range []part{
		{"io_uring_setup", unix.SYS_IO_URING_SETUP, [6]uintptr{1, at0(unsafe.Pointer(&zeros))}},
		{"io_setup", unix.SYS_IO_SETUP, [6]uintptr{1, at0(unsafe.Pointer(&zeros))}},
		{"bpf", unix.SYS_BPF, [6]uintptr{unix.BPF_MAP_CREATE, at0(unsafe.Pointer(&mapAttr)), unsafe.Sizeof(mapAttr)}},
		{"perf_event_open", unix.SYS_PERF_EVENT_OPEN, [6]uintptr{at0(unsafe.Pointer(&perf)), 0, bad, bad, 0}},
		{"userfaultfd", unix.SYS_USERFAULTFD, [6]uintptr{1}},
		{"keyctl: a new session", unix.SYS_KEYCTL, [6]uintptr{unix.KEYCTL_JOIN_SESSION_KEYRING}},
		{"add_key", unix.SYS_ADD_KEY, [6]uintptr{at0(unsafe.Pointer(&user[0])), at0(unsafe.Pointer(&payload[0])), at0(unsafe.Pointer(&payload[0])), 6, bad - 1}},
		{"init_module", unix.SYS_INIT_MODULE, [6]uintptr{}},
		{"kexec_load", unix.SYS_KEXEC_LOAD, [6]uintptr{0, 1 << 20, 0, bad}},
		{"reboot", unix.SYS_REBOOT, [6]uintptr{1, 1, 1}},
		{"swapon", unix.SYS_SWAPON, [6]uintptr{0, bad}},
		{"sethostname", unix.SYS_SETHOSTNAME, [6]uintptr{0, bad}},
		{"settimeofday", unix.SYS_SETTIMEOFDAY, [6]uintptr{0, 0}},
		{"personality: no randomised addresses", unix.SYS_PERSONALITY, [6]uintptr{0x0040000}},
		{"syslog: the kernel's log", unix.SYS_SYSLOG, [6]uintptr{3, at0(unsafe.Pointer(&zeros)), 64}},
		{"quotactl", unix.SYS_QUOTACTL, [6]uintptr{0x800001 << 8, 0, 0, 0}},
		{"acct", unix.SYS_ACCT, [6]uintptr{0}},
		{"fanotify_init", unix.SYS_FANOTIFY_INIT, [6]uintptr{unix.FAN_REPORT_FID}},
		{"fsopen", unix.SYS_FSOPEN, [6]uintptr{0, 0}},
		{"open_tree", unix.SYS_OPEN_TREE, [6]uintptr{at, at0(unsafe.Pointer(&slash[0])), 1}},
		{"splice", unix.SYS_SPLICE, [6]uintptr{bad, 0, bad, 0, 1, 0}},
		{"msgget", unix.SYS_MSGGET, [6]uintptr{0, 0o1600}},
		{"mq_open", unix.SYS_MQ_OPEN, [6]uintptr{at0(unsafe.Pointer(&payload[0])), unix.O_CREAT | unix.O_RDWR, 0o600, 0}},
		{"sched_setscheduler: real time", unix.SYS_SCHED_SETSCHEDULER, [6]uintptr{0, unix.SCHED_FIFO, at0(unsafe.Pointer(&urgent))}},
		{"process_madvise", unix.SYS_PROCESS_MADVISE, [6]uintptr{bad, 0, 0, 4}},
		{"kcmp", unix.SYS_KCMP, [6]uintptr{1, 1, 99}},
	} {
		all = append(all, attack{"call " + p.name, func(*Orders) error {
			got, _, e := syscall.RawSyscall6(p.nr, p.args[0], p.args[1], p.args[2], p.args[3], p.args[4], p.args[5])
			switch {
			case refused(e):
				return e
			case e == 0 && isDescriptor[p.nr]:
				unix.Close(int(got))
			}
			return nil
		}})
	}
	return all
}

// refused tells whether the kernel's answer is that it does not do this, for
// nobody or not for us.
func refused(e syscall.Errno) bool {
	return e == unix.EPERM || e == unix.EACCES || e == unix.ENOSYS
}

var isDescriptor = map[uintptr]bool{
	unix.SYS_IO_URING_SETUP: true, unix.SYS_BPF: true, unix.SYS_PERF_EVENT_OPEN: true, unix.SYS_USERFAULTFD: true,
	unix.SYS_FANOTIFY_INIT: true, unix.SYS_FSOPEN: true, unix.SYS_OPEN_TREE: true, unix.SYS_MQ_OPEN: true,
}
