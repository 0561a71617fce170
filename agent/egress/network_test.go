package egress

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"bulkhead/agent/egress/egresstest"
	"bulkhead/cluster"
	"bulkhead/internal/netspace"
)

var everywhere = cluster.Egress{Allow: []string{"*"}}

func TestThePublicInternetAndNothingElseByDefault(t *testing.T) {
	w := newWorld(t)
	c, other := w.cell("acme.0", everywhere), w.cell("globex.0", everywhere)
	w.Listen(other.ns, "80")
	c.reaches("tcp", net.JoinHostPort(site, "80"))
	c.reaches("tcp", net.JoinHostPort(site6, "443"))
	c.reaches("udp", net.JoinHostPort(site, "4000"))
	c.reaches("udp", net.JoinHostPort(site6, "4000"))
	for _, address := range []string{
		other.addr4().String() + ":80", "[" + other.addr6().String() + "]:80",
		hostPublic + ":22", hostPublic + ":2379", hostPublic + ":2375", hostPrivate + ":2379", "[" + hostPublic6 + "]:2379", "[fd77::2]:2375",
		host4.String() + ":22", "[" + host6.String() + "]:22", router4.String() + ":53", gateway4.String() + ":80",
		private + ":80", "[" + private6 + "]:80", "172.17.0.9:80", "192.168.1.9:80", "100.64.3.3:80", "203.0.113.7:80",
		metadata + ":80", "[" + metadata6 + "]:80", "100.100.100.200:80",
		"[64:ff9b::808:808]:80",
	} {
		c.refused("tcp", address)
	}
	for _, address := range []string{private + ":4000", metadata + ":4000"} {
		c.refused("udp", address)
	}
	// IPv4 in IPv6's clothes is IPv4 to the kernel.
	c.refusedMapped(metadata, 80)
	c.refusedMapped(private, 80)
}

func TestABlankCellReachesNothing(t *testing.T) {
	w := newWorld(t)
	c := w.blank()
	for _, address := range []string{site + ":80", "[" + site6 + "]:80", hostPublic + ":22", Resolver.String() + ":53"} {
		if err := c.try("tcp", address, 200*time.Millisecond); err == nil {
			t.Errorf("a blank cell reaches %s", address)
		}
	}
	w.must(w.network.Join(c.ID, "acme.0", everywhere))
	c.reaches("tcp", site+":80")
	if err := w.network.Join(c.ID, "globex.0", everywhere); err == nil {
		t.Error("a cell that is one instance's was made another's")
	}
}

func TestPolicyByName(t *testing.T) {
	w := newWorld(t)
	w.Says("api.example.com.", "A", site, private, site)
	w.Says("www.example.com.", "A", metadata+"\nwww.example.com. 60 IN A "+site2)
	w.Says("example.com.", "A", site2)
	w.Says("inside.example.com.", "A", private)
	w.Says("mapped.example.com.", "AAAA", "::ffff:"+metadata)
	c := w.cell("acme.0", cluster.Egress{Allow: []string{"*.example.com"}, Deny: []string{"secret.example.com"}})
	w.Says("secret.example.com.", "A", site2)
	c.refused("tcp", site+":80") // nobody has told it
	if got, code := c.asks("API.example.com.", "A"); len(got) != 1 || got[0] != site {
		t.Fatalf("got %v (%d)", got, code)
	}
	c.reaches("tcp", site+":80")
	c.refused("tcp", site+":53") // no other resolver
	c.refused("tcp", site2+":80")
	// The name points elsewhere now: at what is not its to open.
	if got, _ := c.asks("api.example.com.", "A"); len(got) != 0 {
		t.Errorf("a name led to %v", got)
	}
	c.refused("tcp", private+":80")
	if got, _ := c.asks("www.example.com.", "A"); len(got) != 1 || got[0] != site2 {
		t.Errorf("a name led to %v", got)
	}
	if got, _ := c.asks("mapped.example.com.", "AAAA"); len(got) != 0 {
		t.Errorf("a name led to %v", got)
	}
	for _, name := range []string{"example.com.", "secret.example.com.", "other.org.", "xexample.com."} {
		if got, code := c.asks(name, "A"); len(got) != 0 || code != 3 {
			t.Errorf("%s led to %v (%d)", name, got, code)
		}
	}
	for _, q := range w.Asked() {
		if q == "secret.example.com. A" || q == "other.org. A" {
			t.Errorf("the Internet was asked for %s", q)
		}
	}
}

func TestAPolicyChangesUnderARunningCell(t *testing.T) {
	w := newWorld(t)
	c := w.cell("acme.0", everywhere)
	conn, err := c.dial("tcp", site+":80", soon)
	w.must(err)
	defer conn.Close()
	_, err = says(conn, soon)
	w.must(err)
	w.must(w.network.Set(map[string]cluster.Egress{"acme.0": {Allow: []string{"*", "10.77.0.0/24"}}}))
	if _, err := says(conn, soon); err != nil {
		t.Errorf("a connection that the new policy allows too broke: %v", err)
	}
	c.reaches("tcp", private+":80")
	c.refused("tcp", hostPrivate+":2379") // the host's own address, in that network
	w.must(w.network.Set(map[string]cluster.Egress{"acme.0": {Allow: []string{"*"}, Deny: []string{"8.1.0.0/16"}}}))
	if _, err := says(conn, 300*time.Millisecond); err == nil {
		t.Error("a connection that the new policy denies goes on")
	}
	c.refused("tcp", site+":80")
	second, err := c.dial("tcp", site2+":80", soon)
	w.must(err)
	defer second.Close()
	w.must(w.network.Set(map[string]cluster.Egress{"acme.0": {Allow: []string{"8.1.0.0/16"}}}))
	if _, err := says(second, 300*time.Millisecond); err == nil {
		t.Error("a connection that the new policy no longer allows goes on")
	}
	c.reaches("tcp", site+":80")
	w.must(w.network.Set(nil))
	if err := c.try("tcp", site+":80", 200*time.Millisecond); err == nil {
		t.Error("an instance that is gone still gets out")
	}
}

func TestWhatIsFlushedLetsNothingPassAndComesBack(t *testing.T) {
	w := newWorld(t)
	c := w.cell("acme.0", everywhere)
	udp, err := c.dial("udp", private+":4000", soon)
	w.must(err)
	defer udp.Close()
	for _, ns := range []string{w.Name, w.Name + "h"} {
		for _, flush := range [][]string{{"flush", "ruleset"}, {"delete", "table", "inet", w.Name}, {"flush", "chain", "inet", w.Name, map[bool]string{true: "first", false: "forward"}[ns == w.Name]}} {
			w.network.mu.Lock() // until we have looked, nothing is put back
			out, err := exec.Command("ip", append([]string{"netns", "exec", ns, "nft"}, flush...)...).CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			for _, address := range []string{private + ":80", metadata + ":80", hostPublic + ":2379", hostPrivate + ":2375", "[" + private6 + "]:80", "[" + hostPublic6 + "]:2379"} {
				if err := c.try("tcp", address, 200*time.Millisecond); err == nil {
					t.Errorf("after nft %v in %s a cell reaches %s", flush, ns, address)
				}
			}
			if _, err := says(udp, 200*time.Millisecond); err == nil {
				t.Errorf("after nft %v in %s a cell reaches UDP %s", flush, ns, private)
			}
			w.network.mu.Unlock()
			select {
			case <-w.back:
			case <-time.After(soon):
				t.Fatalf("after nft %v in %s nothing was put back", flush, ns)
			}
			c.reaches("tcp", site+":80")
			c.refused("tcp", private+":80")
		}
	}
}

func TestWithoutAnyRulesNothingIsRoutedOn(t *testing.T) {
	w := newWorld(t)
	c := w.cell("acme.0", everywhere)
	w.network.mu.Lock()
	for _, ns := range []string{w.Name, w.Name + "h"} {
		if out, err := exec.Command("ip", "netns", "exec", ns, "nft", "flush", "ruleset").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	for _, address := range []string{site + ":4000", private + ":4000", net.JoinHostPort(site6, "4000"), metadata + ":4000"} {
		conn, err := c.dial("udp", address, soon)
		w.must(err)
		io.WriteString(conn, "to "+address)
		conn.Close()
	}
	w.network.mu.Unlock()
	<-w.back
	c.reaches("udp", site+":4000") // which comes later
	c.reaches("udp", net.JoinHostPort(site6, "4000"))
	for _, heard := range w.Heard() {
		if heard != "hello" {
			t.Errorf("the Internet heard %q", heard)
		}
	}
}

func TestNobodySpeaksWithAnothersAddress(t *testing.T) {
	w := newWorld(t)
	c, other := w.cell("acme.0", everywhere), w.cell("globex.0", everywhere)
	addresses := func(do string) {
		t.Helper()
		for _, a := range []string{other.addr4().String() + "/32", other.addr6().String() + "/128", "8.8.8.8/32"} {
			out, err := exec.Command("nsenter", "-t", fmt.Sprint(c.pid), "-n", "ip", "addr", do, a, "dev", inside, "nodad").CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
		}
	}
	addresses("add")
	for from, to := range map[string]string{other.addr4().String(): site, other.addr6().String(): site6, "8.8.8.8": site} {
		w.must(netspace.Within(c.ns, func() error {
			d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(from)}}
			conn, err := d.Dial("udp", net.JoinHostPort(to, "4000"))
			if err != nil {
				return err
			}
			defer conn.Close()
			_, err = conn.Write([]byte("from " + from))
			return err
		}))
	}
	addresses("del")
	c.reaches("udp", site+":4000") // which comes later
	c.reaches("udp", net.JoinHostPort(site6, "4000"))
	for _, heard := range w.Heard() {
		if heard != "hello" {
			t.Errorf("the Internet heard %q", heard)
		}
	}
}

func TestConnectionsAreCounted(t *testing.T) {
	w := newWorld(t)
	w.network.state.limits = Limits{Connections: 3, Rate: 1000, Bandwidth: 1 << 20}.withDefaults()
	c, other := w.cell("acme.0", everywhere), w.cell("globex.0", everywhere)
	var open []net.Conn
	for range 3 {
		conn, err := c.dial("tcp", site+":80", soon)
		w.must(err)
		defer conn.Close()
		open = append(open, conn)
	}
	c.refused("tcp", site+":80")
	other.reaches("tcp", site+":80") // it counts for each
	if _, err := says(open[0], soon); err != nil {
		t.Errorf("what was open broke: %v", err)
	}
	open[0].Close()
	deadline := time.Now().Add(soon)
	for c.try("tcp", site+":80", soon) != nil {
		if time.Now().After(deadline) {
			t.Fatal("a connection that is closed is counted")
		}
	}
}

func TestNewConnectionsComeAtABoundedRate(t *testing.T) {
	w := newWorld(t)
	w.network.state.limits = Limits{Connections: 1000, Rate: 1, Bandwidth: 1 << 20}.withDefaults()
	c := w.cell("acme.0", everywhere)
	refused := 0
	for range 20 {
		if c.try("tcp", site+":80", soon) != nil {
			refused++
		}
	}
	if refused == 0 || refused == 20 {
		t.Errorf("of 20 connections at once %d were refused; want some, for one a second is allowed, and two at once", refused)
	}
}

func TestLinksHaveABandwidth(t *testing.T) {
	w := newWorld(t)
	c := w.cell("acme.0", everywhere)
	for _, end := range []struct {
		ns   netns.NsHandle
		link string
	}{{w.network.router.ns, c.link()}, {c.ns, inside}} {
		h, err := netlink.NewHandleAt(end.ns)
		w.must(err)
		defer h.Close()
		link, err := h.LinkByName(end.link)
		w.must(err)
		found, err := h.QdiscList(link)
		w.must(err)
		if len(found) != 1 || found[0].Type() != "tbf" || found[0].(*netlink.Tbf).Rate != 12_500_000 {
			t.Errorf("link %s has %v", end.link, found)
		}
	}
	// And much passes at once.
	conn, err := c.dial("tcp", site+":80", soon)
	w.must(err)
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(soon))
	go conn.Write(make([]byte, 1<<20))
	if _, err := io.ReadFull(conn, make([]byte, 1<<20)); err != nil {
		t.Error(err)
	}
}

func TestWhoFollowsTakesOverWhatPasses(t *testing.T) {
	w := newWorld(t)
	w.Says("api.example.com.", "A", site)
	policy := cluster.Egress{Allow: []string{"api.example.com"}}
	c := w.cell("acme.0", policy)
	c.asks("api.example.com.", "A")
	conn, err := c.dial("tcp", site+":80", soon)
	w.must(err)
	defer conn.Close()
	w.stop()
	if _, err := says(conn, soon); err != nil {
		t.Errorf("without an agent a connection broke: %v", err)
	}
	c.reaches("tcp", site+":80")
	w.open([]Cell{c.Cell}, map[string]cluster.Egress{"acme.0": policy})
	if _, err := says(conn, soon); err != nil {
		t.Errorf("a new agent broke a connection: %v", err)
	}
	c.reaches("tcp", site+":80") // it was told that address before
	c.refused("tcp", site2+":80")
	w.must(w.network.Detach(c.ID))
	out, err := exec.Command("ip", "netns", "exec", w.Name, "nft", "list", "table", "inet", w.Name).CombinedOutput()
	if err != nil || strings.Contains(string(out), c.link()) {
		t.Errorf("a cell that is gone is still in the rules (%v):\n%s", err, out)
	}
}

// thousand is a network with a thousand instances.
func thousand(b *testing.B) *Network {
	b.Helper()
	w := egresstest.New(b)
	config := Config{Name: w.Name, Host: w.HostPath(), Upstream: w.Resolv, Log: slog.New(slog.DiscardHandler)}
	b.Cleanup(func() { Remove(config) })
	n, err := Open(config)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { n.Close() })
	policies := map[string]cluster.Egress{}
	for i := range 1000 {
		policies[fmt.Sprintf("acme.%d", i)] = everywhere
	}
	if err := n.Begin(nil, policies); err != nil {
		b.Fatal(err)
	}
	return n
}

// BenchmarkJoin is what a network adds to the way of an instance that wakes.
func BenchmarkJoin(b *testing.B) {
	n := thousand(b)
	for i := 0; b.Loop(); i++ {
		c := Cell{ID: fmt.Sprintf("%08x", i), UID: i}
		n.state.cells[c.ID] = c
		if err := n.Join(c.ID, fmt.Sprintf("acme.%d", i%1000), everywhere); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPutBack is what a flush in the router costs with a thousand instances.
func BenchmarkPutBack(b *testing.B) {
	n := thousand(b)
	for b.Loop() {
		n.mu.Lock()
		err := n.write()
		n.mu.Unlock()
		if err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSay is what a change of one instance's policy costs among a thousand.
func BenchmarkSay(b *testing.B) {
	n := thousand(b)
	for i := 0; b.Loop(); i++ {
		n.mu.Lock()
		err := n.say(map[string]cluster.Egress{"acme.7": {Allow: []string{fmt.Sprintf("8.8.%d.0/24", i%256)}}})
		n.mu.Unlock()
		if err != nil {
			b.Fatal(err)
		}
	}
}
