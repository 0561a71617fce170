package cluster

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
)

// Egress says where a tenant's code may connect to. What Deny names is never
// reached; of the rest, only what Allow names. "*" is the public Internet; a
// name, with "*." before it any name below, opens the public addresses that
// it resolves to; a network or an address, as CIDR, opens just that, be it
// private or not. Empty: nothing is reached.
type Egress struct {
	Allow []string `json:"allow,omitempty"`
	Deny  []string `json:"deny,omitempty"`
}

// EgressRule is one entry of an [Egress]: one of its fields is set.
type EgressRule struct {
	All  bool         // "*"
	Name string       // "example.com", or "*.example.com"
	Net  netip.Prefix // masked
}

// Unreachable are networks that no tenant's code ever reaches, whatever its
// spec allows: they mean the host itself, its own links, cloud metadata
// services, or no single machine (RFC 6890; RFC 1122, 3927, 4291, 5771, 6052,
// 9637 and IANA's special-purpose registries). Some embed an IPv4 address, by
// which a policy for IPv4 could be got round.
var Unreachable = prefixes(
	"0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "192.88.99.0/24", "224.0.0.0/4", "240.0.0.0/4",
	"100.100.100.200/32", "168.63.129.16/32", "fd00:ec2::254/128", "fd20:ce::254/128", // metadata of clouds outside link-local
	"::/96", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "100:0:0:1::/64", "2001::/32", "2002::/16",
	"5f00::/16", "fe80::/10", "fec0::/10", "ff00::/8",
)

// Special are the networks that are not the public Internet but may be a
// network of the operator's own: reached only where a CIDR allows it.
var Special = prefixes(
	"10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16",
	"192.0.2.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
	"2001::/23", "2001:db8::/32", "3fff::/20", "fc00::/7",
)

// Global is all of IPv6 that is given out to anybody (RFC 4291, section 2.4).
var Global = netip.MustParsePrefix("2000::/3")

func prefixes(texts ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, t := range texts {
		list = append(list, netip.MustParsePrefix(t))
	}
	return list
}

var egressName = regexp.MustCompile(`^(\*\.)?([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// ParseEgressRule reads one entry of an egress policy. An error says what
// would be right.
func ParseEgressRule(s string) (EgressRule, error) {
	const want = `want one like "*", "api.example.com", "*.example.com" or "203.0.113.0/24"`
	if s == "*" {
		return EgressRule{All: true}, nil
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() != "" {
		return EgressRule{}, fmt.Errorf("%snames a link of one host; want an address without %%", show(s))
	} else if err == nil {
		return egressNet(netip.PrefixFrom(a, a.BitLen()))
	}
	if strings.Contains(s, "/") {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return EgressRule{}, fmt.Errorf("%sis no network; %s", show(s), want)
		}
		return egressNet(p)
	}
	last := s[strings.LastIndexByte(s, '.')+1:]
	switch {
	case strings.HasSuffix(s, "."):
		return EgressRule{}, fmt.Errorf("%sends in a dot; want it without", show(s))
	case s != strings.ToLower(s):
		return EgressRule{}, fmt.Errorf("%shas capitals; want %q", show(s), strings.ToLower(s))
	case len(s) > 253 || !egressName.MatchString(s) || strings.Trim(last, "0123456789") == "":
		return EgressRule{}, fmt.Errorf("%sis no name or network; %s", show(s), want)
	}
	return EgressRule{Name: s}, nil
}

func egressNet(p netip.Prefix) (EgressRule, error) {
	switch {
	case p.Addr().Is4In6():
		return EgressRule{}, fmt.Errorf("%s is IPv4 written as IPv6; want it as IPv4, like %s", p, p.Addr().Unmap())
	case p != p.Masked():
		return EgressRule{}, fmt.Errorf("%s has bits set behind its length; want %s", p, p.Masked())
	}
	return EgressRule{Net: p}, nil
}

// Never returns the network of [Unreachable] that holds all of p, if one does.
func Never(p netip.Prefix) (netip.Prefix, bool) {
	for _, n := range Unreachable {
		if n.Overlaps(p) && n.Bits() <= p.Bits() {
			return n, true
		}
	}
	return netip.Prefix{}, false
}

func (r *reader) egress(path string, n node, v *Egress) {
	rules := func(out *[]string, allow bool) func(string, node) {
		return func(path string, n node) {
			*out = nil
			r.list(1000, func(path string, n node) {
				if r.is(path, n, "text", `a name or a network, like "*.example.com" or "10.0.0.0/8"`) && r.egressRule(path, n.text, allow) {
					*out = append(*out, n.text)
				}
			})(path, n)
		}
	}
	r.object(path, n, field{"allow", rules(&v.Allow, true)}, field{"deny", rules(&v.Deny, false)})
}

func (r *reader) egressRule(path, text string, allow bool) bool {
	rule, err := ParseEgressRule(text)
	if err != nil {
		wrong, right, _ := strings.Cut(err.Error(), "; ")
		r.wrong(path, wrong, right)
		return false
	}
	if never, ok := Never(rule.Net); allow && rule.Net.IsValid() && ok {
		r.wrong(path, fmt.Sprintf("%s is in %s, which no tenant's code reaches: it means the host, its own links or no single machine", rule.Net, never), "want a public or a private network, or a name")
		return false
	}
	return true
}
