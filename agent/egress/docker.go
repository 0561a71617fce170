package egress

import (
	"fmt"
	"os/exec"

	"github.com/vishvananda/netns"

	"bulkhead/internal/netspace"
)

// dockerRules has an engine that lets the host forward nothing but its own
// (Docker, unless "iptables": false) leave our link to us, or no longer: an
// accept of ours does not outweigh another's drop. DOCKER-USER is the chain
// that it leaves to others. Where it isn't there, nothing is to be done.
func dockerRules(host netns.NsHandle, link string, pass bool) error {
	for _, program := range []string{"iptables", "ip6tables"} {
		path, err := exec.LookPath(program)
		if err != nil {
			continue
		}
		run := func(args ...string) error {
			return netspace.Within(host, func() error { return exec.Command(path, append([]string{"-w"}, args...)...).Run() })
		}
		if run("-n", "-L", "DOCKER-USER") != nil {
			continue
		}
		for _, rule := range [][]string{
			{"DOCKER-USER", "-i", link, "-j", "ACCEPT"},
			{"DOCKER-USER", "-o", link, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT"},
		} {
			there, change := run(append([]string{"-C"}, rule...)...) == nil, "-I"
			if !pass {
				change = "-D"
			}
			if there == pass {
				continue
			}
			if err := run(append([]string{change}, rule...)...); err != nil {
				return fmt.Errorf("cannot have Docker's rules let link %s pass (%s, chain DOCKER-USER): %w", link, program, err)
			}
		}
	}
	return nil
}
