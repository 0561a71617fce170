// Package handover takes over the listening sockets that systemd, or the
// agent's supervisor, hands to a service it starts (sd_listen_fds(3)).
package handover

import (
	"fmt"
	"net"

	"github.com/coreos/go-systemd/v22/activation"
)

// Listeners returns a listener for each socket handed over; none when there
// are none. The descriptors handed over stay open, where they were, for as
// long as the process lives: a supervisor that was restarted takes the sockets
// back from there.
func Listeners() ([]net.Listener, error) {
	var all []net.Listener
	named, err := Named()
	for _, n := range named {
		all = append(all, n.Listener)
	}
	return all, err
}

// Socket is a listener with the name that its unit gives its descriptors
// (FileDescriptorName=).
type Socket struct {
	Name string
	net.Listener
}

// Named is Listeners, with their names.
func Named() ([]Socket, error) {
	var ls []Socket
	for _, f := range activation.Files(true) {
		l, err := net.FileListener(f)
		if err != nil {
			return nil, fmt.Errorf("cannot take over descriptor %d (%s): %w", f.Fd(), f.Name(), err)
		}
		kept = append(kept, f)
		ls = append(ls, Socket{f.Name(), l})
	}
	return ls, nil
}

// kept holds the descriptors: a file that nobody refers to is closed.
var kept []interface{ Close() error }
