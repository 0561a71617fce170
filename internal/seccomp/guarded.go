package seccomp

import (
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// guardedGroup is calls that are allowed only where one of some sets of
// conditions holds, all of its conditions together. Each condition names what
// is allowed, none what is refused: the kernel looks at 32 bits of most
// arguments and the filter at 64, so what is to be refused could be disguised.
type guardedGroup struct {
	group
	when [][]specs.LinuxSeccompArg
}

// namespaces are clone's flags that make one. Time's, CLONE_NEWTIME, is only
// in reach of clone3 and unshare: in clone its bit is part of a signal's number.
const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER |
	unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP

var guarded = []guardedGroup{
	{group{"threads and processes, without namespaces of their own", `clone`},
		[][]specs.LinuxSeccompArg{{masked(0, namespaces, 0)}}},
	{group{"TCP and UDP over IPv4 and IPv6, and nothing else over them (no ICMP, SCTP, MPTCP, raw); unix sockets; routing's netlink, which os.networkInterfaces() reads",
		`socket`}, sockets()},
	{group{"pairs, by which Node speaks to its children", `socketpair`},
		[][]specs.LinuxSeccompArg{{is(0, unix.AF_UNIX)}}},
	{group{"what libuv and C libraries ask of descriptors, and no device: is it a terminal, how much is there, do not block, copy by reference, the number of a link",
		`ioctl`}, oneOf(1, unix.TCGETS, unix.TIOCGWINSZ, fionread, fionbio, fioclex, fionclex, unix.FICLONE, unix.SIOCGIFINDEX, unix.SIOCGIFNAME)},
	{group{"the filter that a cell adds for itself and for all that it starts; that one refuses this call",
		`seccomp`}, [][]specs.LinuxSeccompArg{{is(0, unix.SECCOMP_SET_MODE_FILTER)}}},
	{group{"names of threads and of memory; the cell's own hardening; death with the parent. Nothing that loosens, traces or filters",
		`prctl`}, oneOf(0, unix.PR_SET_NAME, unix.PR_GET_NAME, unix.PR_SET_VMA, unix.PR_SET_DUMPABLE, unix.PR_GET_DUMPABLE,
		unix.PR_SET_CHILD_SUBREAPER, unix.PR_SET_PDEATHSIG, unix.PR_GET_PDEATHSIG, unix.PR_SET_NO_NEW_PRIVS, unix.PR_GET_NO_NEW_PRIVS)},
}

// ioctl's numbers that are the same on amd64 and arm64, and that
// golang.org/x/sys does not name on both (asm-generic/ioctls.h).
const (
	fionread = 0x541b
	fionbio  = 0x5421
	fionclex = 0x5450
	fioclex  = 0x5451
)

// sockets are the ways to make one. The kernel has each protocol's types by
// themselves: a stream without a protocol is TCP, a datagram UDP.
func sockets() [][]specs.LinuxSeccompArg {
	const kind = 0xf // SOCK_TYPE_MASK: the rest is SOCK_NONBLOCK and SOCK_CLOEXEC
	ways := [][]specs.LinuxSeccompArg{
		{is(0, unix.AF_UNIX)},
		{is(0, unix.AF_NETLINK), is(2, unix.NETLINK_ROUTE)},
	}
	for _, family := range []uint64{unix.AF_INET, unix.AF_INET6} {
		for _, t := range []struct{ kind, protocol uint64 }{
			{unix.SOCK_STREAM, 0}, {unix.SOCK_STREAM, unix.IPPROTO_TCP}, {unix.SOCK_DGRAM, 0}, {unix.SOCK_DGRAM, unix.IPPROTO_UDP},
		} {
			ways = append(ways, []specs.LinuxSeccompArg{is(0, family), masked(1, kind, t.kind), is(2, t.protocol)})
		}
	}
	return ways
}

func is(arg uint, value uint64) specs.LinuxSeccompArg {
	return specs.LinuxSeccompArg{Index: arg, Value: value, Op: specs.OpEqualTo}
}

// masked compares those bits of an argument that are in mask.
func masked(arg uint, mask, value uint64) specs.LinuxSeccompArg {
	return specs.LinuxSeccompArg{Index: arg, Value: mask, ValueTwo: value, Op: specs.OpMaskedEqual}
}

func oneOf(arg uint, values ...uint64) [][]specs.LinuxSeccompArg {
	var ways [][]specs.LinuxSeccompArg
	for _, v := range values {
		ways = append(ways, []specs.LinuxSeccompArg{is(arg, v)})
	}
	return ways
}
