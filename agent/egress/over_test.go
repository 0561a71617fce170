package egress

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"bulkhead/cluster"
)

func TestWhoHitsALimitHearsOfIt(t *testing.T) {
	w := newWorld(t)
	w.network.state.limits = Limits{Connections: 3, Rate: 5}.withDefaults()
	fast, calm, curious := w.cell("acme.0", everywhere), w.cell("globex.0", everywhere), w.cell("initech.0", everywhere)
	calm.reaches("tcp", site+":80")
	told := overs{}
	if got := w.network.findOvers(told, time.Now()); len(got) > 0 {
		t.Fatalf("nobody hit a limit, and is told %v", got)
	}
	var open []net.Conn
	for range 20 {
		if conn, err := fast.dial("tcp", site+":80", soon); err == nil {
			open = append(open, conn)
		}
	}
	for _, conn := range open {
		defer conn.Close()
	}
	conn, err := curious.dial("udp", Resolver.String()+":53", soon)
	w.must(err)
	defer conn.Close()
	for range 10 * asks {
		conn.Write([]byte("no question")) // the rules count it, the resolver need not hear it
	}
	now := time.Now()
	said := map[string]string{}
	for _, f := range w.network.findOvers(told, now) {
		said[f.cell] += f.text + "\n"
	}
	for cell, want := range map[string]string{fast.ID: "more than 3 connections open", curious.ID: "more than 100 questions a second"} {
		if !strings.Contains(said[cell], want) {
			t.Errorf("a cell that hit a limit is told %q, want %q in it", said[cell], want)
		}
	}
	if !strings.Contains(said[fast.ID], "more than 5 new connections a second") || said[calm.ID] != "" {
		t.Errorf("told was %q", said)
	}
	// Once a minute, each.
	if got := w.network.findOvers(told, now.Add(overAgain/2)); len(got) > 0 {
		t.Errorf("told again after half a minute: %v", got)
	}
	if got := w.network.findOvers(told, now.Add(overAgain)); len(got) != 3 {
		t.Errorf("after a minute, while the rules remember, %d are told, want 3", len(got))
	}
}

func TestTheResolverTellsWhomItRefuses(t *testing.T) {
	w := newWorld(t)
	c := w.cell("acme.0", cluster.Egress{Deny: []string{"*"}})
	r := &resolver{network: w.network, ctx: t.Context(), askers: map[string]*asker{}}
	told := overs{}
	for range 4 * questions {
		r.answer(c.addr4(), new(dns.Msg).SetQuestion("example.com.", dns.TypeA))
	}
	if got := w.network.findOvers(told, time.Now()); len(got) > 0 {
		t.Fatalf("who asked no more than he may is told %v", got)
	}
	for range 1000 * questions {
		if r.answer(c.addr4(), new(dns.Msg).SetQuestion("example.com.", dns.TypeA)).Rcode == dns.RcodeRefused {
			break
		}
	}
	got := w.network.findOvers(told, time.Now())
	if len(got) != 1 || got[0].cell != c.ID || !strings.Contains(got[0].text, "questions a second") {
		t.Errorf("told was %v", got)
	}
}

func TestToldIsToldByTheNetworkItself(t *testing.T) {
	w := newWorld(t)
	w.stop()
	heard := make(chan string, 16)
	w.config.Over = func(cell, what string) { heard <- cell + ": " + what }
	w.open(nil, nil)
	w.network.state.limits = Limits{Rate: 1}.withDefaults()
	c := w.cell("acme.0", everywhere)
	for range 20 {
		if conn, err := c.dial("tcp", site+":80", soon); err == nil {
			conn.Close()
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	select {
	case got := <-heard:
		if !strings.HasPrefix(got, c.ID+": egress: more than 1 new connections") {
			t.Errorf("told was %q", got)
		}
	case <-ctx.Done():
		t.Error("nobody was told within 30 s")
	}
}
