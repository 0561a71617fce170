package supervisor

import (
	_ "embed"
	"fmt"
	"maps"
	"slices"
	"strings"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"
)

// syscallSets are systemd's sets of system calls, a line each: the set's
// name, then its calls and the sets that it includes. Source: the output of
// "systemd-analyze syscall-filter" of systemd 252.
//
//go:embed syscalls.txt
var syscallSets string

// load puts the filter on this thread and what it becomes. Refused calls
// fail with EPERM, as SystemCallErrorNumber= says in our units.
func (f filterSpec) load() error {
	policy, err := f.policy()
	if err != nil || policy == nil {
		return err
	}
	return seccomp.LoadFilter(seccomp.Filter{Policy: *policy})
}

// policy returns nil when everything is allowed.
func (f filterSpec) policy() (*seccomp.Policy, error) {
	if len(f.Calls) == 0 {
		return nil, nil
	}
	info, err := arch.GetInfo("")
	if err != nil {
		return nil, err
	}
	allowed := f.allowed()
	known := func(name string) bool { _, ok := info.SyscallNames[name]; return ok }
	refused := f.conditions(known)
	for _, c := range refused {
		delete(allowed, c.Name)
	}
	var names []string
	for name := range allowed {
		if known(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	groups := []seccomp.SyscallGroup{{Action: seccomp.ActionAllow, Names: names}}
	if len(refused) > 0 {
		groups = append(groups, seccomp.SyscallGroup{Action: seccomp.ActionAllow, NamesWithCondtions: refused})
	}
	return &seccomp.Policy{DefaultAction: seccomp.ActionErrno, Syscalls: groups}, nil
}

// allowed evaluates SystemCallFilter= lines: the first says whether the list
// allows or, after a tilde, refuses; what every program needs is always in.
func (f filterSpec) allowed() map[string]bool {
	sets := parseSets(syscallSets)
	allowed := map[string]bool{}
	expand(sets, "@default", func(name string) { allowed[name] = true })
	if strings.HasPrefix(f.Calls[0], "~") {
		for set := range maps.Keys(sets) {
			expand(sets, set, func(name string) { allowed[name] = true })
		}
	}
	for _, line := range f.Calls {
		names, refuse := strings.CutPrefix(line, "~")
		for _, name := range strings.Fields(names) {
			expand(sets, name, func(name string) {
				if refuse {
					delete(allowed, name)
				} else {
					allowed[name] = true
				}
			})
		}
	}
	if f.NoNamespaces {
		// Its flags are out of a filter's sight. Go's runtime does without.
		delete(allowed, "clone3")
		delete(allowed, "setns")
	}
	return allowed
}

func parseSets(text string) map[string][]string {
	sets := map[string][]string{}
	for line := range strings.Lines(text) {
		if words := strings.Fields(line); len(words) > 0 {
			sets[words[0]] = words[1:]
		}
	}
	return sets
}

func expand(sets map[string][]string, name string, visit func(string)) {
	if !strings.HasPrefix(name, "@") {
		visit(name)
		return
	}
	for _, member := range sets[name] {
		expand(sets, member, visit)
	}
}

// conditions are the calls that are allowed only with some arguments, each as
// often as there are ways for it to be allowed.
func (f filterSpec) conditions(known func(string) bool) []seccomp.NameWithConditions {
	var cs []seccomp.NameWithConditions
	when := func(name string, conditions ...seccomp.Condition) {
		if known(name) {
			cs = append(cs, seccomp.NameWithConditions{Name: name, Conditions: conditions})
		}
	}
	lacks := func(arg uint32, bits uint64) seccomp.Condition {
		return seccomp.Condition{Argument: arg, Operation: seccomp.BitsNotSet, Value: bits}
	}
	for _, family := range f.Families {
		when("socket", seccomp.Condition{Argument: 0, Operation: seccomp.Equal, Value: families[family]})
	}
	if f.LockPersonality {
		when("personality", seccomp.Condition{Argument: 0, Operation: seccomp.Equal, Value: 0})
		when("personality", seccomp.Condition{Argument: 0, Operation: seccomp.Equal, Value: 0xffffffff}) // asks only
	}
	if f.NoNamespaces {
		when("clone", lacks(0, namespaces))
		when("unshare", lacks(0, namespaces))
	}
	if f.NoWriteExecute {
		when("mmap", lacks(2, unix.PROT_EXEC))
		when("mmap", lacks(2, unix.PROT_WRITE))
		when("mprotect", lacks(2, unix.PROT_EXEC))
	}
	return cs
}

const namespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

var families = map[string]uint64{"AF_UNIX": unix.AF_UNIX, "AF_INET": unix.AF_INET, "AF_INET6": unix.AF_INET6, "AF_NETLINK": unix.AF_NETLINK}

// check returns an error for a filter that would not mean what it says.
func (f filterSpec) check() error {
	for _, name := range f.Families {
		if _, ok := families[name]; !ok {
			return fmt.Errorf("RestrictAddressFamilies=%s: not a family we know", name)
		}
	}
	policy, err := f.policy()
	if err == nil && policy != nil {
		_, err = policy.Assemble()
	}
	if err != nil {
		return fmt.Errorf("SystemCallFilter=: %w", err)
	}
	return nil
}
