package egress

import (
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bulkhead/cluster"
)

func TestPolicyDecidesAboutNamesAndAddresses(t *testing.T) {
	for _, c := range []struct {
		sentence           string
		egress             cluster.Egress
		names, noNames     []string
		addrs, noAddrs     []string
		byAddress, nothing bool
	}{
		{
			sentence: "nothing is allowed unless something is", egress: cluster.Egress{}, nothing: true,
			noNames: []string{"example.com", ""},
		},
		{
			sentence: "the Internet is what is public", egress: cluster.Egress{Allow: []string{"*"}}, byAddress: true,
			names: []string{"example.com", "localhost"},
			addrs: []string{"8.8.8.8", "2a00:1::1"},
			noAddrs: []string{"10.1.2.3", "127.0.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1", "255.255.255.255", "100.64.0.1", "192.0.0.8", "198.18.0.1", "168.63.129.16",
				"::1", "::", "::ffff:8.8.8.8", "::ffff:10.1.2.3", "64:ff9b::a01:203", "2002:a01:203::1", "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1", "2001:db8::1", "4000::1", "fd00:ec2::254"},
		},
		{
			sentence: "a wildcard covers what is below a name, not the name", egress: cluster.Egress{Allow: []string{"*.example.com"}},
			names: []string{"a.example.com", "a.b.example.com"}, noNames: []string{"example.com", "aexample.com", ".example.com", "example.com.evil.org"},
		},
		{
			sentence: "what is denied is denied although it is allowed", egress: cluster.Egress{Allow: []string{"*", "10.0.0.0/8"}, Deny: []string{"*.evil.org", "10.1.0.0/16", "8.8.8.8"}},
			names: []string{"evil.org", "example.com"}, noNames: []string{"www.evil.org"},
			addrs: []string{"10.2.0.1", "8.8.4.4"}, noAddrs: []string{"10.1.0.1", "8.8.8.8", "192.168.0.1"},
		},
		{
			sentence: "a network that is never reached is not by being allowed", egress: cluster.Egress{Allow: []string{"169.0.0.0/8", "::/0", "fd00::/8"}},
			addrs: []string{"169.1.1.1", "fd00::1"}, noAddrs: []string{"169.254.169.254", "::1", "fe80::1", "fd00:ec2::254", "::ffff:1.2.3.4"},
		},
		{
			sentence: "denying what can't be read denies all", egress: cluster.Egress{Allow: []string{"*"}, Deny: []string{"what is this"}}, nothing: true,
			noNames: []string{"example.com"}, noAddrs: []string{"8.8.8.8"},
		},
		{
			sentence: "allowing what can't be read allows nothing", egress: cluster.Egress{Allow: []string{"what is this"}}, nothing: true,
			noNames: []string{"example.com"},
		},
	} {
		p := NewPolicy(c.egress)
		for want, names := range map[bool][]string{true: c.names, false: c.noNames} {
			for _, n := range names {
				if p.Name(n) != want {
					t.Errorf("%s: name %q: %v", c.sentence, n, !want)
				}
			}
		}
		for want, addrs := range map[bool][]string{true: c.addrs, false: c.noAddrs} {
			for _, a := range addrs {
				if p.Address(netip.MustParseAddr(a)) != want {
					t.Errorf("%s: address %s: %v", c.sentence, a, !want)
				}
			}
		}
		if p.ByAddress != c.byAddress || p.Nothing() != c.nothing {
			t.Errorf("%s: by address %v, nothing %v", c.sentence, p.ByAddress, p.Nothing())
		}
	}
}

func TestAnswersAreBroughtDownToWhatMayBeSeen(t *testing.T) {
	m := new(dns.Msg)
	for _, text := range []string{
		"a.example.com. 86400 IN CNAME b.example.net.", "b.example.net. 1 IN A 8.1.1.1", "b.example.net. 1 IN A 10.0.0.1",
		"b.example.net. 1 IN AAAA 2a00::1", "b.example.net. 1 IN AAAA ::ffff:8.1.1.1",
		"a.example.com. 60 IN HTTPS 1 . ipv4hint=10.0.0.1", "a.example.com. 60 IN TXT text",
	} {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	p := NewPolicy(cluster.Egress{Allow: []string{"*"}})
	answer, addrs, ttl := permitted(p, m, true)
	if len(answer) != 4 || len(addrs) != 2 || ttl != ttlMin {
		t.Errorf("%v, addresses %v, for %v", answer, addrs, ttl)
	}
	for _, rr := range answer {
		if rr.Header().Ttl != uint32(ttlMin/time.Second) {
			t.Errorf("%v stands for another time", rr)
		}
	}
	if _, addrs, _ := permitted(p, m, false); len(addrs) != 1 || !addrs[0].Is4() {
		t.Errorf("without IPv6: %v", addrs)
	}
	m.Answer = m.Answer[:1]
	if _, _, ttl := permitted(p, m, true); ttl != ttlMin { // what was clamped once stays so
		t.Errorf("stands for %v", ttl)
	}
	m.Answer[0].Header().Ttl = 86400
	if _, _, ttl := permitted(p, m, true); ttl != ttlMax {
		t.Errorf("stands for %v", ttl)
	}
}

func TestNetworksAreMinimal(t *testing.T) {
	var nets []netip.Prefix
	for _, text := range []string{"10.1.0.0/16", "10.0.0.0/8", "10.0.0.0/8", "192.168.0.0/24", "fd00::/8", "fd00::1/128", "10.255.255.255/32"} {
		nets = append(nets, netip.MustParsePrefix(text))
	}
	if got := elements(nets, true); got != "10.0.0.0/8, 192.168.0.0/24" {
		t.Error(got)
	}
	if got := elements(nets, false); got != "fd00::/8" {
		t.Error(got)
	}
}

func TestWhatWasGivenLastsAndIsBounded(t *testing.T) {
	g, now := given{}, time.Now()
	a, b := netip.MustParseAddr("8.1.1.1"), netip.MustParseAddr("8.2.2.2")
	if longer, ok := g.note("acme.0", "a.example.com", []netip.Addr{a, b}, now.Add(time.Minute), now); !ok || len(longer) != 2 {
		t.Errorf("%v, %v", longer, ok)
	}
	if longer, ok := g.note("acme.0", "a.example.com", []netip.Addr{a}, now.Add(time.Second), now); !ok || len(longer) != 0 {
		t.Errorf("what lasts longer was made shorter: %v, %v", longer, ok)
	}
	g.note("acme.0", "b.example.com", []netip.Addr{b}, now.Add(2*time.Minute), now)
	g.keep("acme.0", NewPolicy(cluster.Egress{Allow: []string{"b.example.com"}}))
	if left := g.leases()["acme.0"]; len(left) != 1 || left[0].addr != b {
		t.Errorf("under the new policy: %v", left)
	}
	var many []netip.Addr
	for i := range maxGiven {
		many = append(many, netip.AddrFrom4([4]byte{11, 0, byte(i >> 8), byte(i)}))
	}
	if _, ok := g.note("acme.0", "b.example.com", many, now.Add(time.Minute), now); ok {
		t.Error("an instance was given more than it can have")
	}
	if _, ok := g.note("acme.0", "b.example.com", many, now.Add(time.Hour), now.Add(3*time.Minute)); !ok {
		t.Error("what has run out keeps the place of what is new")
	}
}
