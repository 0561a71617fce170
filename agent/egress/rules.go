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
	// asks is how many questions a second reach the resolver from an instance,
	// twice as many at once: it answers fewer.
	asks = 2 * questions
	// Rules keep the addresses of a name a little longer than the answer
	// says, for who connects at the last moment.
	graceSeconds = 30
)

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
	b.WriteString(overSetsText())
	b.WriteString(s.base())
	for _, i := range slices.Sorted(maps.Keys(s.policies)) {
		b.WriteString(s.chains(i))
	}
	b.WriteString("}\n")
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
		ip daddr @never4 goto refuse
		ip6 daddr @never6 goto refuse
		ip daddr @host4 goto refuse
		ip6 daddr @host6 goto refuse
	}
	chain untracked {
		type filter hook prerouting priority raw; policy accept;
		iifname != { "lo", %[2]q } ip daddr %[1]s udp dport 53 notrack
	}
	chain answers {
		type filter hook output priority raw; policy accept;
		ip saddr %[1]s udp sport 53 notrack
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

// instance are the words that put one's rules in the place of those that it
// has, if it has any.
func (s state) instance(name string) string {
	var b strings.Builder
	for _, f := range []struct{ set, kind string }{{names4(name), "ipv4_addr"}, {names6(name), "ipv6_addr"}} {
		fmt.Fprintf(&b, "add set inet %[1]s %[2]s { type %[3]s; flags timeout; size %[4]d; }\nflush set inet %[1]s %[2]s\n", s.table, f.set, f.kind, maxGiven)
	}
	for _, chain := range []string{name, pass(name)} {
		fmt.Fprintf(&b, "add chain inet %[1]s %[2]s\nflush chain inet %[1]s %[2]s\n", s.table, chain)
	}
	fmt.Fprintf(&b, "table inet %s {\n%s}\n", s.table, s.chains(name))
	return b.String()
}

// chains are an instance's rules: what it was let to connect to before under
// the same policy goes on, all else is decided by where it goes.
func (s state) chains(name string) string {
	p := s.policies[name]
	var b strings.Builder
	b.WriteString(s.names(name))
	generation, passing := p.generation(name), "goto "+pass(name)
	fmt.Fprintf(&b, `	chain %[1]s {
		ct state new limit rate over %[2]d/second burst %[3]d packets %[8]s goto refuse
		ct state new ct count over %[4]d %[9]s goto refuse
		ct mark set %#[5]x meta mark set %#[6]x accept
	}
	chain %[7]s {
`, pass(name), s.limits.Rate, 2*s.limits.Rate, s.limits.Connections, generation, passMark, name, tooOften.note(), tooMany.note())
	line := func(format string, args ...any) { fmt.Fprintf(&b, "\t\t"+format+"\n", args...) }
	nets := func(nets []netip.Prefix, then string) {
		if v4 := elements(nets, true); v4 != "" {
			line("ip daddr { %s } %s", v4, then)
		}
		if v6 := elements(nets, false); v6 != "" {
			line("ip6 daddr { %s } %s", v6, then)
		}
	}
	line("limit rate over %d/second burst %d packets %s drop", s.limits.Packets, s.limits.Packets, tooFast.note())
	line("ip daddr %s udp dport 53 limit rate %d/second burst %d packets accept", gateway4, asks, 2*asks)
	line("ip daddr %s udp dport 53 %s goto refuse", gateway4, tooCurious.note())
	line("ip daddr %s tcp dport 53 ct state new limit rate over %d/second burst %d packets %s drop", gateway4, asks/10, asks/5, tooCurious.note())
	line("ip daddr %s tcp dport 53 accept", gateway4)
	line("jump every")
	nets(p.denyNets, "goto refuse")
	if p.denyAll {
		line("goto refuse")
		b.WriteString("\t}\n")
		return b.String()
	}
	line("ct state established,related ct mark %#x meta mark set %#x accept", generation, passMark)
	nets(p.allowNets, passing)
	if p.ByAddress {
		line("ip daddr != @special4 %s", passing)
		line("ip6 daddr %s ip6 daddr != @special6 %s", cluster.Global, passing)
	} else {
		line("meta l4proto { tcp, udp } th dport { 53, 853 } goto refuse")
		line("ip daddr @%s %s", names4(name), passing)
		line("ip6 daddr @%s %s", names6(name), passing)
	}
	line("goto refuse")
	b.WriteString("\t}\n")
	return b.String()
}

// hosts replaces what the rules know for the host's own addresses.
func (s state) hosts() string {
	var b strings.Builder
	for suffix, v4 := range map[string]bool{"4": true, "6": false} {
		fmt.Fprintf(&b, "flush set inet %s host%s\n", s.table, suffix)
		if e := elements(singles(s.host), v4); e != "" {
			fmt.Fprintf(&b, "add element inet %s host%s { %s }\n", s.table, suffix, e)
		}
	}
	return b.String()
}

// names are the sets of the addresses that an instance has been told.
func (s state) names(instance string) string {
	told := map[bool][]string{}
	for _, l := range s.given[instance] {
		told[l.addr.Is4()] = append(told[l.addr.Is4()], fmt.Sprintf("%s timeout %ds", l.addr, l.seconds))
	}
	var b strings.Builder
	for _, f := range []struct {
		set, kind string
		v4        bool
	}{{names4(instance), "ipv4_addr", true}, {names6(instance), "ipv6_addr", false}} {
		fmt.Fprintf(&b, "\tset %s { type %s; flags timeout; size %d;", f.set, f.kind, maxGiven)
		if len(told[f.v4]) > 0 {
			fmt.Fprintf(&b, " elements = { %s };", strings.Join(told[f.v4], ", "))
		}
		b.WriteString(" }\n")
	}
	return b.String()
}

// pass is the chain of what an instance's policy lets through: its limits.
func pass(instance string) string { return instance + "/pass" }

// gone are the words that remove instances' rules. No cell may be theirs any
// more.
func gone(table string, instances []string) string {
	var b strings.Builder
	for _, i := range instances {
		for _, part := range []string{"flush chain", "delete chain"} {
			fmt.Fprintf(&b, "%[1]s inet %[2]s %[3]s\n%[1]s inet %[2]s %[4]s\n", part, table, i, pass(i))
		}
		fmt.Fprintf(&b, "delete set inet %[1]s %[2]s\ndelete set inet %[1]s %[3]s\n", table, names4(i), names6(i))
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
