package egress

import "net/netip"

// What links have for addresses. Only the router sees the cells' and the
// gateway's, only host and router those of the link between them. They are of
// the range for benchmarks (RFC 2544), which nobody routes and no policy
// reaches by default, and of one unique local network (RFC 4193).
var (
	cells4   = netip.MustParsePrefix("198.18.0.0/16")
	cells6   = netip.MustParsePrefix("fd9b:4c70:e1a7::/64")
	gateway4 = netip.MustParseAddr("198.19.0.1")
	gateway6 = netip.MustParseAddr("fe80::1") // at every cell's link
	host4    = netip.MustParseAddr("198.19.255.254")
	router4  = netip.MustParseAddr("198.19.255.255")
	host6    = netip.MustParseAddr("fd9b:4c70:e1a7:ffff::")
	router6  = netip.MustParseAddr("fd9b:4c70:e1a7:ffff::1")
)

// Resolver is what cells ask for names.
var Resolver = gateway4

// Cell is a cell that may have a link.
type Cell struct {
	ID       string
	UID      int    // its user, unique on the host: its address follows from it
	Instance string // whose it is; empty: nobody's, and nothing passes
}

// link is what the cell's link is called in the router.
func (c Cell) link() string { return "c" + c.ID }

// addr4 and addr6 are the cell's. Users of cells are fewer than 65536.
func (c Cell) addr4() netip.Addr {
	a := cells4.Addr().As4()
	a[2], a[3] = byte(c.UID>>8), byte(c.UID)
	return netip.AddrFrom4(a)
}

func (c Cell) addr6() netip.Addr {
	a := cells6.Addr().As16()
	a[13], a[14], a[15] = 1, byte(c.UID>>8), byte(c.UID)
	return netip.AddrFrom16(a)
}
