package proxy

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"time"
)

// imagesProtocol is what a host speaks to another that it wants an image of, by
// ALPN (RFC 7301): HTTP/1.1, answered by the other's agent. The proxy is where
// each knows the other by its certificate, and passes on bytes.
const imagesProtocol = "bulkhead-images/1"

// imageTime is how long one connection for an image may last.
const imageTime = 30 * time.Minute

// ImageDialer returns what connects to the agents of other hosts, for an image:
// through their proxies, with the certificate of this host's.
func ImageDialer(host string, files PeerFiles, log *slog.Logger) (func(ctx context.Context, host, address string) (net.Conn, error), error) {
	t, err := newPeerTLS(host, files, func(err error) { log.Error("no good certificate", "error", err) })
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, host, address string) (net.Conn, error) {
		return t.dialFor(ctx, host, address, imagesProtocol)
	}, nil
}

// passImages connects another host to this host's agent. Neither is waited for
// when the proxy ends: who wants an image begins anew.
func (p *Proxy) passImages(peer net.Conn, host string, log *slog.Logger) {
	defer peer.Close()
	agent, err := net.DialTimeout("unix", p.opts.Images, peerDial)
	if err != nil {
		log.Warn("no image for another host: this host's agent does not answer", "host", host, "error", err)
		return
	}
	defer agent.Close()
	ctx, cancel := context.WithTimeout(p.closing, imageTime)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { peer.Close(); agent.Close() })
	defer stop()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(agent, peer)
		agent.Close()
	}()
	n, err := io.Copy(peer, agent)
	peer.Close()
	<-done
	if err != nil && !errors.Is(err, net.ErrClosed) {
		log.Info("an image for another host was cut short", "host", host, "bytes", n, "error", err)
	}
}
