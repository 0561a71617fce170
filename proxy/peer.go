package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"bulkhead/internal/frames"
)

// Times of a connection to another host's proxy.
const (
	peerDial   = time.Second             // for TCP to connect
	peerGreet  = time.Second             // from there to the peer's HELLO
	peerTick   = 500 * time.Millisecond  // a peer that says nothing is asked so often
	peerSilent = 2500 * time.Millisecond // one that then says nothing is dead
	peerAge    = time.Hour               // after that new requests take a new connection
)

// peerBacklog is how many bytes may wait to be written to a peer: the windows
// of 256 streams. Between hosts a function may well be faster than the network.
const peerBacklog = 64 << 20

// errNoPeers is what reaching another host fails with where that has not been
// set up.
var errNoPeers = errors.New("this proxy has no certificate for other hosts' proxies (--peer-ca, --peer-cert, --peer-key)")

// peerID is another host's proxy.
type peerID struct{ host, address string }

// dialer connects to another host's proxy, and is sure that it is that one.
type dialer func(ctx context.Context, host, address string) (net.Conn, error)

// peer is another host's proxy, for the requests of all tenants: one
// connection, on which frames multiplex.
type peer struct {
	peerID
	table   *Table
	circuit circuit
	users   int // targets; the table's own

	mu      sync.Mutex
	client  *frames.Client
	made    time.Time
	dialing *attempt
	retired bool
}

// attempt is a connection being made, for all who wait for it.
type attempt struct {
	done   chan struct{}
	client *frames.Client
	err    error
}

// acquire returns the peer for one more target. t.mu is held.
func (t *Table) acquire(id peerID) *peer {
	p := t.peers[id]
	if p == nil {
		p = &peer{peerID: id, table: t}
		t.peers[id] = p
	}
	p.users++
	return p
}

// release lets a peer go with its last target: requests under way finish. t.mu
// is held.
func (t *Table) release(p *peer) {
	if p == nil {
		return
	}
	if p.users--; p.users > 0 {
		return
	}
	delete(t.peers, p.peerID)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retired = true
	if p.client != nil {
		p.client.Leave()
	}
}

// connect returns the connection, which it makes if there is none.
func (p *peer) connect(ctx context.Context) (*frames.Client, error) {
	p.mu.Lock()
	if p.client != nil && p.client.Usable() {
		defer p.mu.Unlock()
		if time.Since(p.made) >= peerAge {
			p.renew()
		}
		return p.client, nil
	}
	if p.retired {
		p.mu.Unlock()
		return nil, fmt.Errorf("no instance is on host %s any more", p.host)
	}
	a := p.renew()
	p.mu.Unlock()
	select {
	case <-a.done:
		return a.client, a.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// renew has a connection made, if that is not under way. p.mu is held.
func (p *peer) renew() *attempt {
	if p.dialing == nil {
		p.dialing = &attempt{done: make(chan struct{})}
		go p.attempt(p.dialing)
	}
	return p.dialing
}

// attempt makes a connection, and puts it in the place of the one before, whose
// requests finish.
func (p *peer) attempt(a *attempt) {
	client, err := p.dial()
	p.mu.Lock()
	if err == nil && p.retired {
		client.Leave()
		err = fmt.Errorf("no instance is on host %s any more", p.host)
	}
	a.client, a.err, p.dialing = client, err, nil
	works := err == nil || p.client != nil && p.client.Usable()
	if works {
		p.made = time.Now()
	}
	if err == nil {
		if p.client != nil {
			p.client.Leave()
		}
		p.client = client
	}
	p.mu.Unlock()
	if works {
		p.succeeded()
	} else {
		p.failed(err)
	}
	close(a.done)
}

func (p *peer) dial() (*frames.Client, error) {
	fail := func(err error) (*frames.Client, error) {
		return nil, fmt.Errorf("cannot reach the proxy of host %s at %s: %w", p.host, p.address, err)
	}
	if p.table.dial == nil {
		return fail(errNoPeers)
	}
	ctx, cancel := context.WithTimeout(context.Background(), peerDial+peerGreet)
	defer cancel()
	conn, err := p.table.dial(ctx, p.host, p.address)
	if err != nil {
		return fail(err)
	}
	client := frames.NewClientWith(conn, "proxy", peerBacklog)
	if err := client.Greeted(ctx); err != nil {
		client.Close()
		return fail(err)
	}
	client.StayAlive(peerTick, peerSilent)
	go p.mourn(client)
	return client, nil
}

// mourn notes a connection that has ended because the peer had fallen silent:
// to find that out again would take as long.
func (p *peer) mourn(client *frames.Client) {
	<-client.Done()
	if err := client.Err(); errors.Is(err, frames.ErrSilent) {
		p.failed(err)
	}
}

func (p *peer) failed(err error) {
	if rest, opened := p.circuit.failed(time.Now(), true); opened {
		p.table.log.Warn("circuit open: sending no requests to a host", "host", p.host, "address", p.address, "rest", rest, "error", err)
	}
}

func (p *peer) succeeded() {
	if p.circuit.succeeded() {
		p.table.log.Info("circuit closed: a host takes requests again", "host", p.host, "address", p.address)
		p.table.recovered()
	}
}

// dieSoon has the kernel end a connection to a peer that has lost power: TCP
// itself repeats itself for a quarter of an hour (tcp(7), TCP_USER_TIMEOUT).
func dieSoon(fd uintptr) error {
	if err := unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(peerSilent/time.Millisecond)); err != nil {
		return fmt.Errorf("cannot bound how long a peer may be silent: %w", err)
	}
	return nil
}

// keepAlive has it notice while it has nothing to send, too.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 2}
