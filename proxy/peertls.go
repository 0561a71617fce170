package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"bulkhead/cluster"
)

// peerProtocol is what proxies agree on by ALPN (RFC 7301): frames, version 1.
const peerProtocol = "bulkhead-frames/1"

// PeerFiles are a proxy's certificate for other hosts' proxies. They are read
// again when they change, and are in force for connections made from then on.
type PeerFiles struct {
	CA   string // PEM: who signs the certificates of proxies
	Cert string // PEM: for cluster.PeerName of the host
	Key  string // PEM: its private key
}

// peerTLS makes the two ends' settings of what the files hold.
type peerTLS struct {
	host  string
	pair  *pair
	files PeerFiles
}

// newPeerTLS reads the files; the error says what is wrong with them.
func newPeerTLS(host string, files PeerFiles, say func(error)) (*peerTLS, error) {
	p, err := newPair(files.Cert, files.Key, say)
	if err == nil {
		err = p.current().Leaf.VerifyHostname(cluster.PeerName(host))
	}
	if err != nil {
		return nil, fmt.Errorf("cannot use the certificate for other hosts' proxies: %w", err)
	}
	t := &peerTLS{host, p, files}
	if _, err := t.roots(); err != nil {
		return nil, err
	}
	return t, nil
}

func (t *peerTLS) roots() (*x509.CertPool, error) { return readRoots(t.files.CA) }

// readRoots reads certificate authorities from a PEM file.
func readRoots(file string) (*x509.CertPool, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("cannot read certificate authorities: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		return nil, fmt.Errorf("cannot read certificate authorities: %s has no certificate in PEM form", file)
	}
	return pool, nil
}

func (t *peerTLS) config() (*tls.Config, error) {
	roots, err := t.roots()
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{*t.pair.current()},
		RootCAs:      roots,
		ClientCAs:    roots,
	}, nil
}

// dial connects to another host's proxy.
func (t *peerTLS) dial(ctx context.Context, host, address string) (net.Conn, error) {
	return t.dialFor(ctx, host, address, peerProtocol)
}

// dialFor does so to speak this protocol.
func (t *peerTLS) dialFor(ctx context.Context, host, address, protocol string) (net.Conn, error) {
	config, err := t.config()
	if err != nil {
		return nil, err
	}
	config.NextProtos = []string{protocol}
	config.ServerName = cluster.PeerName(host)
	d := net.Dialer{Timeout: peerDial, KeepAliveConfig: keepAlive, Control: func(_, _ string, c syscall.RawConn) (err error) {
		return errors.Join(c.Control(func(fd uintptr) { err = dieSoon(fd) }), err)
	}}
	raw, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, err
	}
	if conn.ConnectionState().NegotiatedProtocol != protocol {
		raw.Close()
		return nil, fmt.Errorf("it does not speak %s", protocol)
	}
	return conn, nil
}

// accept takes a connection of another host, to speak one of these protocols,
// and returns that host's name and which it is. It closes raw with an error.
func (t *peerTLS) accept(ctx context.Context, raw net.Conn, protocols ...string) (conn net.Conn, host, protocol string, err error) {
	ctx, cancel := context.WithTimeout(ctx, peerDial+peerGreet)
	defer cancel()
	defer func() {
		if err != nil {
			raw.Close()
		}
	}()
	config, err := t.config()
	if err != nil {
		return nil, "", "", err
	}
	config.NextProtos = protocols
	config.ClientAuth = tls.RequireAndVerifyClientCert
	c := tls.Server(raw, config)
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, "", "", err
	}
	state := c.ConnectionState()
	if !slices.Contains(protocols, state.NegotiatedProtocol) {
		return nil, "", "", fmt.Errorf("it speaks none of %v", protocols)
	}
	host, err = peerHost(state.PeerCertificates[0])
	return c, host, state.NegotiatedProtocol, err
}

// peerHost is the host that a proxy's certificate is for.
func peerHost(c *x509.Certificate) (string, error) {
	for _, name := range c.DNSNames {
		host, ok := strings.CutSuffix(name, cluster.PeerName(""))
		if ok && cluster.CheckHost(host) == nil {
			return host, nil
		}
	}
	return "", fmt.Errorf("its certificate is for %v, not for a host's proxy (%s)", c.DNSNames, cluster.PeerName("<host>"))
}

// hardenTCP sets what a dialer would have.
func hardenTCP(c net.Conn) error {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) { set = dieSoon(fd) })
	return errors.Join(err, set, tcp.SetKeepAliveConfig(keepAlive), tcp.SetDeadline(time.Time{}))
}
