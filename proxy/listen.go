package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// handshakeTime bounds how long a client may take to agree on TLS.
const handshakeTime = 10 * time.Second

// CertificateFiles are the certificate that clients are shown, and its key, in
// PEM form. They are read again when they change; a pair that cannot be used
// leaves the last good one in force.
type CertificateFiles struct{ Cert, Key string }

// ErrNoCertificate is what serving TLS fails with when there is neither a
// certificate nor a way to get one.
var ErrNoCertificate = errors.New("no certificate for clients: give files, or have ACME get one")

// readClientTLS makes what clients are served with over TLS, if the options say
// anything of it.
func (p *Proxy) readClientTLS(say func(error)) (err error) {
	o := p.opts
	config := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
	switch {
	case o.TLS != nil && o.ACME != nil:
		return errors.New("cannot serve TLS: certificates come either from files or from ACME")
	case o.TLS != nil:
		if p.certificate, err = newPair(o.TLS.Cert, o.TLS.Key, say); err != nil {
			return err
		}
		config.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.certificate.current(), nil }
		p.tls = config
	case o.ACME != nil:
		if p.acme, err = newACME(*o.ACME, o.Domain, p.table.Has, say); err != nil {
			return err
		}
		p.acme.configure(config)
		p.tls = config
	}
	return nil
}

// ServeTLS takes connections of clients over TLS until Shutdown: HTTP/2 and
// HTTP/1.1, as they like.
func (p *Proxy) ServeTLS(ln net.Listener) error {
	if p.tls == nil {
		return fmt.Errorf("cannot serve TLS: %w", ErrNoCertificate)
	}
	one, two := newQueue(ln.Addr()), newQueue(ln.Addr())
	stop := context.AfterFunc(p.closing, func() { ln.Close() })
	defer stop()
	served := make(chan error, 2)
	go func() { served <- p.serve(one) }()
	go func() { served <- p.serveH2(two) }()
	err := p.acceptTLS(ln, one, two)
	one.Close()
	two.Close()
	return errors.Join(err, <-served, <-served)
}

func (p *Proxy) acceptTLS(ln net.Listener, one, two *queue) error {
	for {
		raw, err := p.accept(ln)
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			return fmt.Errorf("cannot serve TLS: %w", err)
		}
		placed := p.place(raw)
		if placed == nil {
			raw.Close()
			continue
		}
		conn := tls.Server(placed, p.tls)
		go p.shake(conn, one, two)
	}
}

// acceptAgain is how long to wait when there is no room for a connection.
const acceptAgain = 100 * time.Millisecond

// accept takes the next connection. That one could not be taken for want of
// file descriptors or memory, or was gone already, ends no listener: others
// would suffer for what some client does.
func (p *Proxy) accept(ln net.Listener) (net.Conn, error) {
	for {
		c, err := ln.Accept()
		if err == nil || !slices.ContainsFunc(passing, func(e error) bool { return errors.Is(err, e) }) {
			return c, err
		}
		p.opts.Log.Warn("cannot take a connection, trying again", "error", err)
		select {
		case <-time.After(acceptAgain):
		case <-p.closing.Done():
			return nil, net.ErrClosed
		}
	}
}

// passing are errors of accept(2) that do not last.
var passing = []error{unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.ECONNABORTED, unix.EPROTO}

// shake agrees on TLS with a client and hands it on by the protocol that it
// speaks.
func (p *Proxy) shake(conn *tls.Conn, one, two *queue) {
	ctx, cancel := context.WithTimeout(p.closing, handshakeTime)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		p.opts.Log.Debug("no TLS with a client", "client", conn.RemoteAddr(), "error", err)
		conn.Close()
		return
	}
	switch conn.ConnectionState().NegotiatedProtocol {
	case "h2":
		two.add(conn)
	case "", "http/1.1":
		one.add(conn)
	default: // a question of the certificate authority, which is answered
		conn.Close()
	}
}

// placedConn gives its place back when it is closed.
type placedConn struct {
	net.Conn
	free func()
}

// Close ends the connection.
func (c *placedConn) Close() error {
	c.free()
	return c.Conn.Close()
}

// NetConn returns the connection beneath.
func (c *placedConn) NetConn() net.Conn { return c.Conn }

// CloseWrite ends what we send.
func (c *placedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// queue is a listener of connections that have been accepted elsewhere.
type queue struct {
	addr  net.Addr
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newQueue(addr net.Addr) *queue {
	return &queue{addr: addr, conns: make(chan net.Conn), done: make(chan struct{})}
}

func (q *queue) add(c net.Conn) {
	select {
	case q.conns <- c:
	case <-q.done:
		c.Close()
	}
}

// Accept waits for the next connection.
func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (q *queue) Close() error {
	q.once.Do(func() { close(q.done) })
	return nil
}

// Addr is where the connections come in.
func (q *queue) Addr() net.Addr { return q.addr }
