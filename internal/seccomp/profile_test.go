package seccomp

import (
	"encoding/json"
	"runtime"
	"slices"
	"testing"

	"github.com/elastic/go-seccomp-bpf/arch"
	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// passing are the calls of a machine that a container without capabilities may
// make with at least some arguments, as the engine's own code reads a profile.
func passing(t *testing.T, profile string) []string {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		t.Skip("the numbers in docs/security.md are amd64's")
	}
	machine, err := arch.GetInfo("")
	if err != nil {
		t.Fatal(err)
	}
	s := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}}
	read, err := seccomp.LoadProfile(profile, s)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, rule := range read.Syscalls {
		for _, name := range rule.Names {
			if _, known := machine.SyscallNames[name]; known && rule.Action == specs.ActAllow {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// What passes ours passes Docker's too, and much of Docker's does not pass.
func TestNarrowerThanDockers(t *testing.T) {
	text, err := json.Marshal(seccomp.DefaultProfile())
	if err != nil {
		t.Fatal(err)
	}
	docker, ours := passing(t, string(text)), passing(t, Profile())
	for _, name := range ours {
		if _, ok := slices.BinarySearch(docker, name); !ok {
			t.Errorf("%s passes, though Docker's own filter refuses it", name)
		}
	}
	t.Logf("Docker's filter lets %d calls pass, ours %d", len(docker), len(ours))
	if len(ours)*3 > len(docker)*2 {
		t.Errorf("ours lets %d calls pass, more than two thirds of Docker's %d", len(ours), len(docker))
	}
}

// A call that is named twice would be decided by chance.
func TestEachCallIsNamedOnce(t *testing.T) {
	seen := map[string]string{}
	var groups []group
	groups = append(groups, allowed...)
	groups = append(groups, absent...)
	for _, g := range guarded {
		groups = append(groups, g.group)
	}
	for _, g := range groups {
		for _, name := range g.names() {
			if before, twice := seen[name]; twice {
				t.Errorf("%s is named for %q and for %q", name, before, g.why)
			}
			seen[name] = g.why
		}
	}
}
