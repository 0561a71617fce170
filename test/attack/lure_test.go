package attack

import (
	"net"
	"testing"
)

// fetched fails if anybody came to the attacker's server for a key. Whoever
// connected stands in the listener's queue, so nothing is to be waited for.
func (s *site) fetched(t *testing.T) {
	t.Helper()
	c, err := net.Dial("tcp", s.lure.Addr().String()) // stands behind all others
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	first, err := s.lure.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if first.RemoteAddr().String() != c.LocalAddr().String() {
		t.Error("a token had its key fetched from where it said")
	}
}
