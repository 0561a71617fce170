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
	var ls []net.Listener
	for _, f := range activation.Files(true) {
		l, err := net.FileListener(f)
		if err != nil {
			return nil, fmt.Errorf("cannot take over descriptor %d: %w", f.Fd(), err)
		}
		kept = append(kept, f)
		ls = append(ls, l)
	}
	return ls, nil
}

// kept holds the descriptors: a file that nobody refers to is closed.
var kept []interface{ Close() error }
