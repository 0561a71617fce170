package egress

import (
	"fmt"
	"os/exec"

	"github.com/vishvananda/netns"
)

// passDocker tells an engine that has the host forward nothing but its own
// (Docker, unless "iptables": false) to leave our link to us: an accept of
// ours does not outweigh another's drop. DOCKER-USER is the chain that it
// leaves to others. Where it isn't there, nothing is to be done.
func passDocker(host netns.NsHandle, link string) error {
	for _, program := range []string{"iptables", "ip6tables"} {
		path, err := exec.LookPath(program)
		if err != nil {
			continue
		}
		for _, rule := range [][]string{
			{"-i", link, "-j", "ACCEPT"},
			{"-o", link, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT"},
		} {
			err := within(host, func() error {
				run := func(args ...string) error { return exec.Command(path, append(args, rule...)...).Run() }
				if exec.Command(path, "-w", "-n", "-L", "DOCKER-USER").Run() != nil || run("-w", "-C", "DOCKER-USER") == nil {
					return nil
				}
				return run("-w", "-I", "DOCKER-USER")
			})
			if err != nil {
				return fmt.Errorf("cannot have Docker's rules let link %s pass (%s, chain DOCKER-USER): %w", link, program, err)
			}
		}
	}
	return nil
}
