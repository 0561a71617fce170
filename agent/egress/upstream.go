package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netns"

	"bulkhead/internal/netspace"
)

// upstreamPatience is how long one server may take.
const upstreamPatience = 2 * time.Second

// upstream is whom the resolver asks: the servers that the host asks.
type upstream struct {
	ns        netns.NsHandle // the host's
	elsewhere bool           // which is not ours
	file      string

	mu      sync.Mutex
	read    time.Time // when the file was written that was read last
	servers []string
}

// ask returns the first answer that a server gives to q.
func (u *upstream) ask(ctx context.Context, q dns.Question) (*dns.Msg, error) {
	servers, err := u.list()
	if err != nil {
		return nil, err
	}
	errs := []error{errors.New("cannot resolve")}
	for _, server := range servers {
		m, err := u.exchange(ctx, "udp", server, q)
		if err == nil && m.Truncated {
			m, err = u.exchange(ctx, "tcp", server, q)
		}
		if err == nil && m.Rcode != dns.RcodeServerFailure && m.Rcode != dns.RcodeRefused {
			return m, nil
		}
		if err == nil {
			err = fmt.Errorf("%s says %s", server, dns.RcodeToString[m.Rcode])
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// exchange asks one server: from a new socket each time, so that an answer has
// its port and its number to guess.
func (u *upstream) exchange(ctx context.Context, network, server string, q dns.Question) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, upstreamPatience)
	defer cancel()
	m := new(dns.Msg)
	m.Id, m.RecursionDesired, m.Question = dns.Id(), true, []dns.Question{q}
	m.SetEdns0(1232, false)
	conn, err := u.dial(ctx, network, server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	client := dns.Client{Net: network, UDPSize: 1232}
	answer, _, err := client.ExchangeWithConnContext(ctx, m, &dns.Conn{Conn: conn, UDPSize: 1232})
	if err != nil {
		return nil, err
	}
	if len(answer.Question) != 1 || !strings.EqualFold(answer.Question[0].Name, q.Name) || answer.Question[0].Qtype != q.Qtype {
		return nil, fmt.Errorf("%s answers something else", server)
	}
	return answer, nil
}

func (u *upstream) dial(ctx context.Context, network, server string) (net.Conn, error) {
	var d net.Dialer
	if !u.elsewhere {
		return d.DialContext(ctx, network, server)
	}
	var conn net.Conn
	err := netspace.Within(u.ns, func() (err error) {
		conn, err = d.DialContext(ctx, network, server)
		return err
	})
	return conn, err
}

// list reads the servers, again when the file has changed.
func (u *upstream) list() ([]string, error) {
	path := u.file
	if path == "" {
		path = "/etc/resolv.conf"
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("cannot find servers to ask for names: %w", err)
	}
	if info.ModTime().Equal(u.read) {
		return u.servers, nil
	}
	c, err := dns.ClientConfigFromFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot find servers to ask for names: %w", err)
	}
	u.servers, u.read = nil, info.ModTime()
	for _, s := range c.Servers {
		u.servers = append(u.servers, net.JoinHostPort(s, c.Port))
	}
	return u.servers, nil
}
