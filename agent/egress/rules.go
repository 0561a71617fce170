package egress

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"bulkhead/cluster"
)

const (
	// uplink is the router's link to the host.
	uplink = "up"
	// passMark is on packets that the rules have let pass: only they are routed on.
	passMark = 0xb1
	// Rules keep the addresses of a name a little longer than the answer
	// says, for who connects at the last moment.
	graceSeconds = 30
)

// Limits is what one instance may do to the network.
type Limits struct {
	Connections int   // open at a time; default 512
	Rate        int   // new connections a second, twice as many in a burst; default 100
	Bandwidth   int64 // bytes a second, each way; default 12.5 MB (100 Mbit/s)
}

func (l Limits) withDefaults() Limits {
	if l.Connections == 0 {
		l.Connections = 512
	}
	if l.Rate == 0 {
		l.Rate = 100
	}
	if l.Bandwidth == 0 {
		l.Bandwidth = 12_500_000
	}
	return l
}

// state is all that the router's rules follow from.
type state struct {
	table    string
	limits   Limits
	never    []netip.Prefix // besides those of package cluster
	host     []netip.Addr   // the host's own addresses
	cells    map[string]Cell
	policies map[string]Policy // by instance
	given    map[string][]lease
}

// lease is an address that an instance may reach for a while, for it was told
// it under a name.
type lease struct {
	addr    netip.Addr
	seconds int
}

// rules are the router's, all of them: in one transaction they take the place
// of whatever was there.
func (s state) rules() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %[1]s\ndelete table inet %[1]s\ntable inet %[1]s {\n", s.table)
	fmt.Fprintf(&b, "\tmap cells { type ifname : verdict; }\n")
	fmt.Fprintf(&b, "\tset own4 { type ifname . ipv4_addr; }\n\tset own6 { type ifname . ipv6_addr; }\n")
	set(&b, "host", singles(s.host))
	set(&b, "never", append(slices.Clone(cluster.Unreachable), s.never...))
	set(&b, "special", append(slices.Clone(cluster.Special), cells4, cells6))
	b.WriteString(s.base())
	b.WriteString("}\n")
	for _, i := range slices.Sorted(maps.Keys(s.policies)) {
		b.WriteString(s.instance(i))
	}
	for _, id := range slices.Sorted(maps.Keys(s.cells)) {
		c := s.cells[id]
		fmt.Fprintf(&b, "add element inet %s own4 { %q . %s }\nadd element inet %s own6 { %q . %s }\n", s.table, c.link(), c.addr4(), s.table, c.link(), c.addr6())
		if _, known := s.policies[c.Instance]; known {
			fmt.Fprintf(&b, "add element inet %s cells { %q : goto %s }\n", s.table, c.link(), c.Instance)
		}
	}
	return b.String()
}

// base is what holds for every cell. A link without an element in cells, a
// blank cell's, gets nothing through.
func (s state) base() string {
	return fmt.Sprintf(`	chain refuse {
		reject with icmpx admin-prohibited
	}
	chain every {
		ip daddr %[1]s meta l4proto { tcp, udp } th dport 53 accept
		ip daddr @never4 goto refuse
		ip6 daddr @never6 goto refuse
		ip daddr @host4 goto refuse
		ip6 daddr @host6 goto refuse
	}
	chain first {
		type filter hook prerouting priority mangle; policy drop;
		iifname { "lo", %[2]q } accept
		icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255 accept
		ct state invalid drop
		meta nfproto ipv4 iifname . ip saddr != @own4 drop
		meta nfproto ipv6 iifname . ip6 saddr != @own6 drop
		iifname vmap @cells
	}
	chain here {
		type filter hook input priority filter; policy drop;
		iifname "lo" accept
		icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255 accept
		iifname != %[2]q ip daddr %[1]s meta l4proto { tcp, udp } th dport 53 accept
	}
	chain through {
		type filter hook forward priority filter; policy drop;
		iifname %[2]q ct state established,related accept
		iifname != %[2]q oifname %[2]q meta mark %#[3]x tcp flags syn tcp option maxseg size set rt mtu
		iifname != %[2]q oifname %[2]q meta mark %#[3]x accept
	}
	chain out {
		type nat hook postrouting priority srcnat; policy accept;
		oifname %[2]q masquerade
	}
`, gateway4, uplink, passMark)
}

// instance are the rules of one: what it was let to connect to before under
// the same policy goes on, all else is decided by where it goes. It may be
// said again, about an instance that has rules already.
func (s state) instance(name string) string {
	p := s.policies[name]
	var b strings.Builder
	line := func(format string, args ...any) {
		fmt.Fprintf(&b, "add rule inet %s %s "+format+"\n", append([]any{s.table, name}, args...)...)
	}
	for _, f := range []struct{ set, kind string }{{names4(name), "ipv4_addr"}, {names6(name), "ipv6_addr"}} {
		fmt.Fprintf(&b, "add set inet %[1]s %[2]s { type %[3]s; flags timeout; size %[4]d; }\nflush set inet %[1]s %[2]s\n", s.table, f.set, f.kind, maxGiven)
	}
	for _, l := range s.given[name] {
		fmt.Fprintf(&b, "add element inet %s %s { %s timeout %ds }\n", s.table, namesOf(name, l.addr), l.addr, l.seconds)
	}
	fmt.Fprintf(&b, "add chain inet %[1]s %[2]s\nflush chain inet %[1]s %[2]s\n", s.table, name)
	gen := p.generation(name)
	pass := fmt.Sprintf("ct mark set %#x meta mark set %#x accept", gen, passMark)
	nets := func(nets []netip.Prefix, then string) {
		if v4 := elements(nets, true); v4 != "" {
			line("ip daddr { %s } %s", v4, then)
		}
		if v6 := elements(nets, false); v6 != "" {
			line("ip6 daddr { %s } %s", v6, then)
		}
	}
	line("jump every")
	nets(p.denyNets, "goto refuse")
	if p.denyAll {
		line("goto refuse")
		return b.String()
	}
	line("ct state established,related ct mark %#x meta mark set %#x accept", gen, passMark)
	line("ct state new limit rate over %d/second burst %d packets goto refuse", s.limits.Rate, 2*s.limits.Rate)
	line("ct state new ct count over %d goto refuse", s.limits.Connections)
	nets(p.allowNets, pass)
	if p.ByAddress {
		line("ip daddr != @special4 %s", pass)
		line("ip6 daddr %s ip6 daddr != @special6 %s", cluster.Global, pass)
	} else {
		line("meta l4proto { tcp, udp } th dport { 53, 853 } goto refuse")
		line("ip daddr @%s %s", names4(name), pass)
		line("ip6 daddr @%s %s", names6(name), pass)
	}
	line("goto refuse")
	return b.String()
}

// gone are the words that remove instances' rules. No cell may be theirs any
// more.
func gone(table string, instances []string) string {
	var b strings.Builder
	for _, i := range instances {
		fmt.Fprintf(&b, "flush chain inet %[1]s %[2]s\ndelete chain inet %[1]s %[2]s\ndelete set inet %[1]s %[3]s\ndelete set inet %[1]s %[4]s\n", table, i, names4(i), names6(i))
	}
	return b.String()
}

func names4(instance string) string { return instance + "/4" }
func names6(instance string) string { return instance + "/6" }

func namesOf(instance string, a netip.Addr) string {
	if a.Is4() {
		return names4(instance)
	}
	return names6(instance)
}

// set makes a set of networks, one for each family.
func set(b *strings.Builder, name string, nets []netip.Prefix) {
	for _, f := range []struct {
		suffix, kind string
		v4           bool
	}{{"4", "ipv4_addr", true}, {"6", "ipv6_addr", false}} {
		fmt.Fprintf(b, "\tset %s%s { type %s; flags interval;", name, f.suffix, f.kind)
		if e := elements(nets, f.v4); e != "" {
			fmt.Fprintf(b, " elements = { %s };", e)
		}
		b.WriteString(" }\n")
	}
}

func singles(addrs []netip.Addr) []netip.Prefix {
	var nets []netip.Prefix
	for _, a := range addrs {
		nets = append(nets, netip.PrefixFrom(a, a.BitLen()))
	}
	return nets
}
