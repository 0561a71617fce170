package proxy

import (
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"bulkhead/internal/comeback"
)

// maxInFlight bounds the requests in flight through a host's proxy: those of
// all tenants together.
const maxInFlight = 8192

// shares divides what there is a bounded number of among those who come for
// it. It is safe for use by several goroutines.
type shares struct {
	most int

	mu    sync.Mutex
	taken int
	of    map[string]int
}

func newShares(most int) *shares { return &shares{most: most, of: map[string]int{}} }

// mayHave reports whether who has so many may have one more: as long as he has
// fewer than are left. So one alone gets at most half of all, two get at most a
// third each, and whatever those take who want everything, as much is left for
// who comes then. (Choudhury and Hahne's dynamic thresholds, with factor 1.)
func mayHave(has, taken, most int) bool { return has < most-taken }

// take takes one for somebody, if he may have it.
func (s *shares) take(who string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !mayHave(s.of[who], s.taken, s.most) {
		return false
	}
	s.of[who]++
	s.taken++
	return true
}

// give gives one back.
func (s *shares) give(who string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken--
	if s.of[who]--; s.of[who] == 0 {
		delete(s.of, who)
	}
}

// has is how many somebody has.
func (s *shares) has(who string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.of[who]
}

// admit counts a tenant's request as in flight, until its record ends.
func (p *Proxy) admit(r *record) *refusal {
	if r.counted {
		return nil
	}
	if r.counted = p.inFlight.take(r.tenant); r.counted {
		return nil
	}
	refusal := refuse(503, "host_busy", "%d requests of tenant %q are in flight through this host, and no more are left for it: of the %d that there may be in all, a tenant may have as many as it leaves to others", p.inFlight.has(r.tenant), r.tenant, p.inFlight.most)
	refusal.retryAfter = time.Second
	return refusal
}

// sharedListener lets no client's address have all of the connections.
type sharedListener struct {
	net.Listener
	p *Proxy
}

// Accept waits for the next connection that there is a place for.
func (l sharedListener) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c := l.p.place(raw); c != nil {
			return c, nil
		}
		go turnAway(raw)
	}
}

// place gives a connection one of its client's places; nil: he has none left.
func (p *Proxy) place(raw net.Conn) net.Conn {
	who := clientOf(raw.RemoteAddr())
	if who == "" {
		return raw
	}
	if !p.clients.take(who) {
		return nil
	}
	return &placedConn{Conn: raw, free: sync.OnceFunc(func() { p.clients.give(who) })}
}

// clientOf is whose a connection is, as far as an address tells: of IPv6 the
// network of 64 bits, all of which one client may have. Empty: nobody can tell.
func clientOf(addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return ""
	}
	ip := tcp.AddrPort().Addr().Unmap()
	if ip.Is6() {
		return netip.PrefixFrom(ip.WithZone(""), 64).Masked().String()
	}
	return ip.String()
}

// turnAway says why a connection is closed, before anything of it is read.
func turnAway(c net.Conn) {
	r := refuse(503, "too_many_connections", "your address has as many connections to this host as it leaves to others: close some, or use HTTP/2")
	body := r.body("")
	head := "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nCache-Control: no-store\r\nConnection: close\r\nRetry-After: " +
		strconv.Itoa(comeback.After(time.Second)) + "\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n"
	// What a new connection's buffer has no room for is not waited for.
	if c.SetDeadline(time.Now().Add(lingerTime)) == nil {
		c.Write(append([]byte(head), body...))
	}
	c.Close()
}
