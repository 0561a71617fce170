package egress

import (
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// How long what is answered may stand, whatever its own server says: not so
// short that a server can change its mind between two looks, not so long that
// the rules keep what the name has long lost.
const (
	ttlMin = 10 * time.Second
	ttlMax = 5 * time.Minute
)

// permitted makes of what the upstream answered what an instance may see:
// nothing but the answers themselves, without addresses that its policy does
// not open, nor those of IPv6 where that leads nowhere (v6). It returns those that are left, and for how long.
func permitted(p Policy, m *dns.Msg, v6 bool) (answer []dns.RR, addrs []netip.Addr, ttl time.Duration) {
	ttl = ttlMax
	for _, rr := range m.Answer {
		var a netip.Addr
		switch r := rr.(type) {
		case *dns.A:
			a, _ = netip.AddrFromSlice(r.A.To4())
		case *dns.AAAA:
			a, _ = netip.AddrFromSlice(r.AAAA.To16()) // mapped ones stay so, and are refused
		case *dns.CNAME, *dns.DNAME, *dns.TXT, *dns.MX, *dns.SRV, *dns.NS, *dns.SOA, *dns.CAA, *dns.PTR, *dns.NAPTR:
		default: // HTTPS, SVCB and whatever comes hint at addresses of their own
			continue
		}
		if kind := rr.Header().Rrtype; kind == dns.TypeA || kind == dns.TypeAAAA {
			if !p.Address(a) || a.Is6() && !v6 {
				continue
			}
			addrs = append(addrs, a)
		}
		ttl = min(ttl, time.Duration(rr.Header().Ttl)*time.Second)
		answer = append(answer, rr)
	}
	ttl = max(ttl, ttlMin)
	for _, rr := range answer {
		rr.Header().Ttl = uint32(ttl / time.Second)
	}
	return answer, addrs, ttl
}
