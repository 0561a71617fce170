package seccomp

import (
	"encoding/json"
	"sync"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Profile returns the filter as Docker's "--security-opt seccomp=" takes it,
// for amd64 and arm64: names become numbers where the container is made, on
// both of them without the machine's 32-bit calls.
var Profile = sync.OnceValue(func() string {
	text, err := json.Marshal(profile())
	if err != nil {
		panic("internal/seccomp: " + err.Error()) // a list of constants
	}
	return string(text)
})

// profile refuses with EPERM, which is what Docker means by an "errno" without
// a number, what no rule names. Engines before 23 know no other way to say it.
func profile() *seccomp.Seccomp {
	p := &seccomp.Seccomp{
		LinuxSeccomp: specs.LinuxSeccomp{DefaultAction: specs.ActErrno},
		ArchMap:      []seccomp.Architecture{{Arch: specs.ArchX86_64}, {Arch: specs.ArchAARCH64}},
	}
	for _, g := range allowed {
		p.Syscalls = append(p.Syscalls, rule(g, specs.ActAllow))
	}
	for _, g := range guarded {
		for _, args := range g.when {
			r := rule(g.group, specs.ActAllow)
			r.Args = args
			p.Syscalls = append(p.Syscalls, r)
		}
	}
	missing := uint(unix.ENOSYS)
	for _, g := range absent {
		r := rule(g, specs.ActErrno)
		r.ErrnoRet = &missing
		p.Syscalls = append(p.Syscalls, r)
	}
	return p
}

func rule(g group, do specs.LinuxSeccompAction) *seccomp.Syscall {
	return &seccomp.Syscall{Comment: g.why, LinuxSyscall: specs.LinuxSyscall{Names: g.names(), Action: do}}
}
