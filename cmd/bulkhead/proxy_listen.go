package main

import (
	"net"

	"bulkhead/internal/handover"
	"bulkhead/proxy"
)

// proxyListeners are a proxy's, by what comes in: as its units name them.
type proxyListeners struct{ http, https, peer []net.Listener }

// listeners opens the sockets that the flags name, or takes over those that
// our units hand over.
func (o *proxyFlags) listeners() (proxyListeners, error) {
	var ls proxyListeners
	own := false
	for _, l := range []struct {
		flag, address string
		to            *[]net.Listener
	}{{"--listen", o.listen, &ls.http}, {"--listen-tls", o.listenTLS, &ls.https}, {"--listen-peer", o.listenPeer, &ls.peer}} {
		if l.address == "" {
			continue
		}
		ln, err := net.Listen("tcp", l.address)
		if err != nil {
			return ls, fail(exitFailure, "choose another "+l.flag+", or stop what uses it", "cannot listen: %w", err)
		}
		own, *l.to = true, append(*l.to, ln)
	}
	if own {
		return ls, nil
	}
	handed, err := handover.Named()
	if err != nil {
		return ls, err
	}
	for _, s := range handed {
		switch s.Name {
		case "http":
			ls.http = append(ls.http, s.Listener)
		case "https":
			ls.https = append(ls.https, s.Listener)
		case "peer":
			ls.peer = append(ls.peer, s.Listener)
		default:
			return ls, fail(exitUsage, "name it http, https or peer with FileDescriptorName=", "a socket named %q was handed over", s.Name)
		}
	}
	if len(handed) == 0 {
		return ls, fail(exitUsage, "give --listen, or start bulkhead-proxy.socket", "no socket was handed over")
	}
	return ls, nil
}

// serve serves all of them. The channel gets what each ends with.
func (ls proxyListeners) serve(p *proxy.Proxy) <-chan error {
	served := make(chan error, len(ls.http)+len(ls.https)+len(ls.peer))
	for _, of := range []struct {
		listeners []net.Listener
		serve     func(net.Listener) error
	}{{ls.http, p.Serve}, {ls.https, p.ServeTLS}, {ls.peer, p.ServePeers}} {
		for _, ln := range of.listeners {
			go func() { served <- of.serve(ln) }()
		}
	}
	return served
}
