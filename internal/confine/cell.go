package confine

import (
	"fmt"
	"strings"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"
)

// refused are calls that neither a cell nor Node needs, by which code reaches
// into other processes, gets other views of the system, or parts of the kernel
// that want no capability and have had holes.
const refused = `
	ptrace process_vm_readv process_vm_writev process_madvise process_mrelease pidfd_getfd kcmp
	unshare setns mount umount2 pivot_root chroot fsopen fsconfig fsmount fspick move_mount open_tree mount_setattr
	io_setup io_submit io_cancel io_destroy io_getevents io_pgetevents splice vmsplice tee userfaultfd bpf perf_event_open
	keyctl add_key request_key fanotify_init fanotify_mark
	msgget msgsnd msgrcv msgctl semget semop semtimedop semctl shmget shmat shmdt shmctl
	mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr
	memfd_create memfd_secret personality quotactl quotactl_fd name_to_handle_at open_by_handle_at
	mknod mknodat swapon swapoff acct reboot syslog sethostname setdomainname
	init_module finit_module delete_module kexec_load kexec_file_load
	settimeofday clock_settime adjtimex clock_adjtime ioperm iopl modify_ldt vhangup
	sched_setattr sched_setscheduler seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self`

// unknown are calls that libraries try first, and do without where the kernel
// does not know them. Of two filters that refuse a call, the later one's error
// is seen: it has to be the one that they look for.
const unknown = `clone3 io_uring_setup io_uring_enter io_uring_register execveat`

// namespaces are clone's flags that make one (clone(2)).
const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP

// odd are ways to call what is needed otherwise. The kernel looks at 32 bits of
// an argument and the filter at 64; who fills the others is refused as well,
// since he is equal to nothing that is let through.
func odd() []seccomp.NameWithConditions {
	not := func(arg uint32, values ...uint64) (all []seccomp.Condition) {
		for _, v := range values {
			all = append(all, seccomp.Condition{Argument: arg, Operation: seccomp.NotEqual, Value: v})
		}
		return all
	}
	when := func(name string, arg uint32, value uint64, and ...seccomp.Condition) seccomp.NameWithConditions {
		return seccomp.NameWithConditions{Name: name, Conditions: append([]seccomp.Condition{{Argument: arg, Operation: seccomp.Equal, Value: value}}, and...)}
	}
	return []seccomp.NameWithConditions{
		{Name: "clone", Conditions: []seccomp.Condition{{Argument: 0, Operation: seccomp.BitsSet, Value: namespaces}}},
		{Name: "socket", Conditions: not(0, unix.AF_UNIX, unix.AF_INET, unix.AF_INET6, unix.AF_NETLINK)},
		when("socket", 0, unix.AF_NETLINK, not(2, unix.NETLINK_ROUTE)...),
		when("socket", 0, unix.AF_INET, not(2, 0, unix.IPPROTO_TCP, unix.IPPROTO_UDP)...),
		when("socket", 0, unix.AF_INET6, not(2, 0, unix.IPPROTO_TCP, unix.IPPROTO_UDP)...),
	}
}

// Cell takes those calls from the first process of a container and from all that
// it will start. It is a second wall beside the container's own filter
// (internal/seccomp), which lists what is allowed: this one lists what is not, is
// made by another library, and is there whatever the engine was told.
func Cell() error {
	info, err := arch.GetInfo("")
	if err != nil {
		return fmt.Errorf("cannot give up system calls: %w", err)
	}
	known := func(names string) (list []string) {
		for _, name := range strings.Fields(names) {
			if _, ok := info.SyscallNames[name]; ok {
				list = append(list, name)
			}
		}
		return list
	}
	err = seccomp.LoadFilter(seccomp.Filter{
		NoNewPrivs: true, Flag: seccomp.FilterFlagTSync,
		Policy: seccomp.Policy{DefaultAction: seccomp.ActionAllow, Syscalls: []seccomp.SyscallGroup{
			{Action: seccomp.ActionErrno, Names: known(refused)},
			{Action: seccomp.ActionErrno | seccomp.Action(unix.ENOSYS), Names: known(unknown)},
			{Action: seccomp.ActionErrno, NamesWithCondtions: odd()},
		}},
	})
	if err != nil {
		return fmt.Errorf("cannot give up system calls: %w", err)
	}
	return nil
}
