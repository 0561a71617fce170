package egress

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/miekg/dns"
	"golang.org/x/time/rate"

	"bulkhead/internal/netspace"
)

// What a cell may ask: so many questions a second, four times as many at
// once, and so many that are not answered yet.
const (
	questions = 100
	waiting   = 64
)

// asker is what the resolver remembers of a cell.
type asker struct {
	cell string
	pace *rate.Limiter
	room chan struct{}
}

// serve answers cells' questions until the function it returns is called. Its
// sockets are in the router.
func (n *Network) serve(ctx context.Context) (stop func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	address := netip.AddrPortFrom(Resolver, 53).String()
	var udp net.PacketConn
	var tcp net.Listener
	err = netspace.Within(n.router.ns, func() (err error) {
		if udp, err = net.ListenPacket("udp4", address); err != nil {
			return err
		}
		tcp, err = net.Listen("tcp4", address)
		return err
	})
	if err != nil {
		cancel()
		if udp != nil {
			udp.Close()
		}
		return nil, err
	}
	r := &resolver{network: n, ctx: ctx, askers: map[string]*asker{}}
	servers := []*dns.Server{{PacketConn: udp, Handler: r}, {Listener: tcp, Handler: r, MaxTCPQueries: 64}}
	var started [2]chan struct{}
	for i, s := range servers {
		up := make(chan struct{})
		started[i], s.NotifyStartedFunc = up, func() { close(up) }
		go s.ActivateAndServe()
	}
	return func() {
		cancel()
		for i, s := range servers {
			<-started[i]
			s.Shutdown()
		}
	}, nil
}

// resolver answers cells' questions for names.
type resolver struct {
	network *Network
	ctx     context.Context
	askers  map[string]*asker // by cell; the network's lock guards it
}

// ServeDNS implements [dns.Handler].
func (r *resolver) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	if from, err := netip.ParseAddrPort(w.RemoteAddr().String()); err == nil {
		a := r.answer(from.Addr().Unmap(), q)
		size := dns.MinMsgSize
		if opt := q.IsEdns0(); opt != nil {
			a.SetEdns0(1232, false)
			size = min(max(size, int(opt.UDPSize())), 1232)
		}
		if w.RemoteAddr().Network() == "udp" {
			a.Truncate(size)
		}
		w.WriteMsg(a)
	}
}

func (r *resolver) answer(from netip.Addr, q *dns.Msg) *dns.Msg {
	a := new(dns.Msg)
	instance, p, who := r.who(from)
	switch {
	case who == nil, q.Opcode != dns.OpcodeQuery, len(q.Question) != 1, q.Question[0].Qclass != dns.ClassINET:
		return a.SetRcode(q, dns.RcodeRefused)
	case !who.pace.Allow():
		r.network.tooCurious(who.cell)
		return a.SetRcode(q, dns.RcodeRefused)
	}
	select {
	case who.room <- struct{}{}:
		defer func() { <-who.room }()
	default:
		r.network.tooCurious(who.cell)
		return a.SetRcode(q, dns.RcodeRefused)
	}
	name := strings.TrimSuffix(strings.ToLower(q.Question[0].Name), ".")
	if !p.Name(name) {
		return a.SetRcode(q, dns.RcodeNameError) // the code gets ENOTFOUND, at once
	}
	m, err := r.network.upstream.ask(r.ctx, q.Question[0])
	if err != nil {
		r.network.cfg.Log.Debug("cannot resolve a name for an instance", "instance", instance, "error", err)
		return a.SetRcode(q, dns.RcodeServerFailure)
	}
	answer, addrs, ttl := permitted(p, m, r.network.router.v6)
	if err := r.network.give(instance, name, addrs, ttl); err != nil {
		r.network.cfg.Log.Warn("cannot let an instance reach what it has asked for", "instance", instance, "error", err)
		return a.SetRcode(q, dns.RcodeServerFailure)
	}
	a.SetRcode(q, m.Rcode)
	a.RecursionAvailable, a.Answer = true, answer
	return a
}

// who says whose code asks. Each link lets only its own cell's address by.
func (r *resolver) who(from netip.Addr) (string, Policy, *asker) {
	n := r.network
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.state.cells {
		if c.addr4() != from {
			continue
		}
		p, known := n.state.policies[c.Instance]
		if !known {
			break
		}
		if r.askers[c.ID] == nil {
			maps.DeleteFunc(r.askers, func(id string, _ *asker) bool { _, there := n.state.cells[id]; return !there })
			r.askers[c.ID] = &asker{cell: c.ID, pace: rate.NewLimiter(questions, 4*questions), room: make(chan struct{}, waiting)}
		}
		return c.Instance, p, r.askers[c.ID]
	}
	return "", Policy{}, nil
}

// tooCurious notes that a cell asks more than it may.
func (n *Network) tooCurious(cell string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.curious[cell] = true
}

// give lets an instance reach addresses that it is about to be told. What its
// policy no longer opens by now, it is not given.
func (n *Network) give(instance, name string, addrs []netip.Addr, ttl time.Duration) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	p, known := n.state.policies[instance]
	if !known || !p.Name(name) {
		return errors.New("its policy has changed meanwhile")
	}
	for _, a := range addrs {
		if !p.Address(a) {
			return errors.New("its policy has changed meanwhile")
		}
	}
	if p.ByAddress || len(addrs) == 0 {
		return nil
	}
	now := time.Now()
	life := ttl + graceSeconds*time.Second
	longer, ok := n.given.note(instance, name, addrs, now.Add(life), now)
	if !ok {
		return fmt.Errorf("it has been told %d addresses lately: that is the most", maxGiven)
	}
	if len(longer) == 0 {
		return nil
	}
	return n.inner.edit(func(k *nftables.Conn) error { return n.lease(k, instance, longer, life) })
}

// lease keeps addresses in an instance's sets for so long from now. An element
// that is there keeps its time, so each is made sure to be there, removed and
// made again, all in one transaction.
func (n *Network) lease(k *nftables.Conn, instance string, addrs []netip.Addr, life time.Duration) error {
	var errs []error
	for _, a := range addrs {
		kind := nftables.TypeIPAddr
		if a.Is6() {
			kind = nftables.TypeIP6Addr
		}
		set := &nftables.Set{Table: n.table(), Name: namesOf(instance, a), KeyType: kind, HasTimeout: true}
		one := []nftables.SetElement{{Key: a.AsSlice(), Timeout: life}}
		errs = append(errs, k.SetAddElements(set, one), k.SetDeleteElements(set, one), k.SetAddElements(set, one))
	}
	return errors.Join(errs...)
}
