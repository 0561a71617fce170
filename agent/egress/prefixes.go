package egress

import (
	"net/netip"
	"slices"
	"strings"
)

// minimal returns the networks of one family that nets are, without those
// that others hold, in order: nft takes no overlaps.
func minimal(nets []netip.Prefix, v4 bool) []netip.Prefix {
	var list []netip.Prefix
	for _, n := range nets {
		if n.Addr().Is4() == v4 {
			list = append(list, n.Masked())
		}
	}
	slices.SortFunc(list, func(a, b netip.Prefix) int {
		if c := a.Addr().Compare(b.Addr()); c != 0 {
			return c
		}
		return a.Bits() - b.Bits()
	})
	var out []netip.Prefix
	for _, n := range list {
		if len(out) == 0 || !out[len(out)-1].Contains(n.Addr()) {
			out = append(out, n)
		}
	}
	return out
}

// elements are networks as the elements of a set; empty when there are none.
func elements(nets []netip.Prefix, v4 bool) string {
	var texts []string
	for _, n := range minimal(nets, v4) {
		texts = append(texts, n.String())
	}
	return strings.Join(texts, ", ")
}
