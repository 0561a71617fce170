package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"

	"bulkhead/internal/frames"
)

// inbound is a connection from another host's proxy, and the requests that
// came over it. What it says of clients is believed; over no other listener
// does anything come that is.
type inbound struct {
	p    *Proxy
	host string
	conn *frames.Conn

	mu     sync.Mutex
	relays map[uint32]*relay
	away   bool     // GOAWAY has been sent
	dirty  []*relay // have queued frames for their instance; the reader's own
}

// Limits of connections from other hosts' proxies. A proxy has one, and those
// before it that still carry requests: a new one each peerAge. Of more the
// oldest is closed, so that a host that was taken over takes no more than its
// share of our memory, and one that is as it should be loses a raw connection
// that is days old.
const (
	peerConns    = 32   // of one host
	peerGreeting = 4096 // of anybody, who has not shown a certificate yet
)

// inbounds are all connections from other hosts' proxies.
type inbounds struct {
	mu     sync.Mutex
	of     map[string][]*inbound // by host, the oldest first
	closed bool
	work   sync.WaitGroup
}

// ServePeers takes connections from other hosts' proxies until Shutdown.
func (p *Proxy) ServePeers(ln net.Listener) error {
	if p.peerTLS == nil {
		return fmt.Errorf("cannot serve other hosts: %w", errNoPeers)
	}
	stop := context.AfterFunc(p.closing, func() { ln.Close() })
	defer stop()
	greeting := make(chan struct{}, peerGreeting)
	for {
		raw, err := p.accept(ln)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			return fmt.Errorf("cannot serve other hosts: %w", err)
		}
		select {
		case greeting <- struct{}{}:
			p.inbounds.work.Go(func() { p.servePeer(raw, func() { <-greeting }) })
		default:
			raw.Close()
		}
	}
}

// servePeer serves one connection; it calls known once it knows whose it is.
func (p *Proxy) servePeer(raw net.Conn, known func()) {
	log := p.opts.Log.With("address", raw.RemoteAddr().String())
	if err := hardenTCP(raw); err != nil {
		log.Warn("another proxy's connection may outlive it", "error", err)
	}
	protocols := []string{peerProtocol}
	if p.opts.Images != "" {
		protocols = append(protocols, imagesProtocol)
	}
	conn, host, protocol, err := p.peerTLS.accept(p.ctx, raw, protocols...)
	known()
	if err != nil {
		log.Warn("refused a connection that should be another proxy's", "error", err)
		return
	}
	if protocol == imagesProtocol {
		p.passImages(conn, host, log)
		return
	}
	in := &inbound{p: p, host: host, conn: frames.NewConn(conn, "proxy"), relays: map[uint32]*relay{}}
	in.conn.Backlog = peerBacklog
	if !p.inbounds.add(in) {
		in.conn.Close()
		return
	}
	in.conn.Flush() // HELLO: it waits for that
	err = in.conn.Serve(in)
	in.lost()
	p.inbounds.remove(in)
	if err != nil && p.ctx.Err() == nil {
		log.Log(p.ctx, slog.LevelInfo, "another proxy's connection ended", "host", host, "error", err)
	}
}

// add takes a connection in, and returns false if none is taken any more.
func (is *inbounds) add(in *inbound) bool {
	is.mu.Lock()
	defer is.mu.Unlock()
	if is.closed {
		return false
	}
	if is.of == nil {
		is.of = map[string][]*inbound{}
	}
	theirs := append(is.of[in.host], in)
	if len(theirs) > peerConns {
		in.p.opts.Log.Warn("another proxy has too many connections: closing its oldest", "host", in.host, "most", peerConns)
		theirs[0].conn.Close()
		theirs = slices.Delete(theirs, 0, 1)
	}
	is.of[in.host] = theirs
	return true
}

func (is *inbounds) remove(in *inbound) {
	is.mu.Lock()
	defer is.mu.Unlock()
	is.of[in.host] = slices.DeleteFunc(is.of[in.host], func(other *inbound) bool { return other == in })
	if len(is.of[in.host]) == 0 {
		delete(is.of, in.host)
	}
}

// each calls f for every connection.
func (is *inbounds) each(f func(*inbound)) {
	is.mu.Lock()
	defer is.mu.Unlock()
	for _, theirs := range is.of {
		for _, in := range theirs {
			f(in)
		}
	}
}

// Idle sends what the last frames led to.
func (in *inbound) Idle() {
	for i, r := range in.dirty {
		r.flush()
		in.dirty[i] = nil
	}
	in.dirty = in.dirty[:0]
	in.conn.Flush()
}

// Frame takes a frame from the other proxy.
func (in *inbound) Frame(f frames.Frame) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	r := in.relays[f.Stream]
	switch f.Type {
	case frames.TypeHello:
		return checkRole(f.Payload)
	case frames.TypeRequest:
		if r != nil {
			return fmt.Errorf("%w: REQUEST on stream %d, which is open", frames.ErrProtocol, f.Stream)
		}
		req, err := frames.ParseRequest(f.Payload)
		if err != nil {
			return err
		}
		in.begin(f, req)
	case frames.TypeData, frames.TypeTrailers, frames.TypeWindow, frames.TypeReset:
		if r != nil {
			r.fromPeer(f)
		}
	}
	return nil
}

func checkRole(hello []byte) error {
	role, err := frames.ParseHello(hello)
	if err == nil && role != "proxy" {
		err = fmt.Errorf("%w: a proxy serves proxies here, not a %s", frames.ErrProtocol, role)
	}
	return err
}

// goAway has the other proxy send its requests elsewhere. Those that it has
// sent already go on.
func (in *inbound) goAway() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.away {
		in.away = true
		in.conn.Send(func(dst []byte) []byte {
			return frames.Append(dst, frames.Frame{Type: frames.TypeGoAway, Payload: []byte("the proxy is leaving")})
		})
	}
}

// endUpgraded ends the raw connections: no words of ours ask them to finish.
func (in *inbound) endUpgraded() {
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, r := range in.relays {
		if r.upgraded {
			r.end(frames.CodeGone, "the proxy is leaving")
		}
	}
}

// lost gives up what the other proxy has asked: nobody is there to be answered.
func (in *inbound) lost() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.away = true
	for _, r := range in.relays {
		r.drop(frames.CodeCancelled, "the proxy that asked has gone")
	}
}

// drain lets requests that came from other hosts finish, upgraded ones for
// tunnelDrain, all of them until ctx ends; then it closes their connections.
func (is *inbounds) drain(ctx context.Context) {
	is.mu.Lock()
	is.closed = true
	is.mu.Unlock()
	is.each((*inbound).goAway)
	done := make(chan struct{})
	go func() { is.work.Wait(); close(done) }() // the others close what has no streams
	cut, cancel := context.WithTimeout(ctx, tunnelDrain)
	defer cancel()
	select {
	case <-done:
		return
	case <-cut.Done():
		is.each((*inbound).endUpgraded)
	}
	select {
	case <-done:
	case <-ctx.Done():
		is.each(func(in *inbound) { in.conn.Close() })
		<-done
	}
}
