package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"bulkhead/internal/etcd"
	"bulkhead/proxy"
)

// proxyHold is how long a request waits for an instance that starts.
const proxyHold = 30 * time.Second

// proxyIdle is how long a proxy that ends leaves idle connections open.
const proxyIdle = 3 * time.Second

// leavingFile is there, in the proxy's directory, while it is to say that it is
// leaving.
const leavingFile = "leaving"

// failuresFile has, in the same directory, how many requests the platform has
// failed there.
const failuresFile = "failures"

// proxyDrain bounds how long requests in flight hold up the proxy's end; its
// unit kills it after 60 s.
const proxyDrain = 55 * time.Second

// proxyKnows bounds how long a proxy that starts waits for its first routes
// before it lets systemd go on: without etcd and without any on disk there may be
// none for long, and it serves what it can.
const proxyKnows = 20 * time.Second

// proxyFlags are what the command line says.
type proxyFlags struct {
	host, domain, state                     string
	listen, listenTLS, listenPeer           string
	leave                                   time.Duration
	tlsCert, tlsKey                         string
	acmeEmail, acmeDirectory, acmeAuthority string
	peerCA, peerCert, peerKey               string
	images                                  string
}

func newProxy(a *app) *cobra.Command {
	var o proxyFlags
	cmd := &cobra.Command{
		Use:   "proxy --host NAME",
		Short: "Serve as a host's proxy (run by its unit)",
		Long: `proxy takes requests for any tenant and passes them to a ready instance: on
this host if there is one, else through the proxy of another host. It is started
by bulkhead-proxy.socket, bulkhead-proxy-tls.socket (clients over TLS, HTTP/2
too) and bulkhead-proxy-peer.socket (other hosts' proxies), whose sockets it
takes over; --listen, --listen-tls and --listen-peer make it open them itself.

Clients over TLS need a certificate: --tls-cert and --tls-key name its files, or
--acme-email or --acme-directory have a certificate authority issue one for
--domain and for each tenant under it, whose terms of service that accepts.
Other hosts' proxies need --peer-ca, --peer-cert and --peer-key: without them
this host serves alone. Files are read again when they change.

/-/healthz says that it is alive, /-/readyz that it takes requests and will go
on to. Access records go to standard output, one JSON object a request.`,
		Example: `  bulkhead proxy --host h1 --listen 127.0.0.1:8080 --state /var/lib/bulkhead/proxy
  bulkhead proxy --host h1 --domain example.org --listen :80 --listen-tls :443 --acme-email ops@example.org`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if os.Getenv("GOMAXPROCS") == "" {
				// The other half is for runners and functions; waking more
				// cores than there are to spare costs more than it brings.
				runtime.GOMAXPROCS(max(1, runtime.NumCPU()/2))
			}
			options, err := o.options()
			if err != nil {
				return err
			}
			options.Access, options.Log = a.out, slog.New(slog.NewTextHandler(a.stdio.err, nil))
			ls, err := o.listeners()
			if err != nil {
				return err
			}
			return a.serveProxy(cmd.Context(), ls, filepath.Join(o.state, "routes.json"), options)
		},
	}
	o.flags(cmd)
	return cmd
}

func (o *proxyFlags) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.host, "host", "", "this host's name")
	f.StringVar(&o.domain, "domain", "", "serve <tenant>.DOMAIN too")
	f.StringVar(&o.state, "state", "/var/lib/bulkhead/proxy", "directory where routes, and what ACME brings, are kept for the next start")
	f.StringVar(&o.listen, "listen", "", "address to listen on for clients, when no socket is handed over")
	f.StringVar(&o.listenTLS, "listen-tls", "", "likewise, for clients over TLS")
	f.StringVar(&o.listenPeer, "listen-peer", "", "likewise, for other hosts' proxies")
	f.DurationVar(&o.leave, "leave", 0, "how long to go on taking requests once told to stop, with /-/readyz saying 503: the time that a load balancer takes to see it")
	f.StringVar(&o.tlsCert, "tls-cert", "", "PEM file: the certificate, with those above it, that clients are shown")
	f.StringVar(&o.tlsKey, "tls-key", "", "PEM file: its private key")
	f.StringVar(&o.acmeEmail, "acme-email", "", "have certificates issued by ACME; whom the authority may tell of problems")
	f.StringVar(&o.acmeDirectory, "acme-directory", "", "have certificates issued by ACME; the authority's URL (default: Let's Encrypt's)")
	f.StringVar(&o.acmeAuthority, "acme-ca", "", "PEM file: who signs for the authority's own URL (default: who the system trusts)")
	f.StringVar(&o.peerCA, "peer-ca", "", "PEM file: who signs the certificates of hosts' proxies")
	f.StringVar(&o.peerCert, "peer-cert", "", "PEM file: this host's proxy's, for <host>.hosts.bulkhead")
	f.StringVar(&o.peerKey, "peer-key", "", "PEM file: its private key")
	f.StringVar(&o.images, "images", "", "socket at which this host's agent answers other hosts that want an image")
	_ = cmd.MarkFlagRequired("host")
}

// options checks that what belongs together comes together.
func (o *proxyFlags) options() (proxy.Options, error) {
	p := proxy.Options{Host: o.host, Domain: o.domain, Hold: proxyHold, Leave: o.leave, Idle: proxyIdle, Leaving: filepath.Join(o.state, leavingFile), Failures: filepath.Join(o.state, failuresFile), Images: o.images}
	if err := together("--tls-cert and --tls-key", o.tlsCert, o.tlsKey); err != nil {
		return p, err
	}
	if err := together("--peer-ca, --peer-cert and --peer-key", o.peerCA, o.peerCert, o.peerKey); err != nil {
		return p, err
	}
	if o.tlsCert != "" {
		p.TLS = &proxy.CertificateFiles{Cert: o.tlsCert, Key: o.tlsKey}
	}
	if o.peerCA != "" {
		p.Peers = &proxy.PeerFiles{CA: o.peerCA, Cert: o.peerCert, Key: o.peerKey}
	}
	if o.acmeEmail != "" || o.acmeDirectory != "" {
		p.ACME = &proxy.ACME{Email: o.acmeEmail, Directory: o.acmeDirectory, CA: o.acmeAuthority, Dir: filepath.Join(o.state, "acme")}
	} else if o.acmeAuthority != "" {
		return p, fail(exitUsage, "give --acme-directory too", "--acme-ca is for an authority of one's own")
	}
	return p, nil
}

// together returns an error when some of the values are given and others not.
func together(flags string, values ...string) error {
	given := 0
	for _, v := range values {
		if v != "" {
			given++
		}
	}
	if given != 0 && given != len(values) {
		return fail(exitUsage, "give all of them, or none", "%s come together", flags)
	}
	return nil
}

func (a *app) serveProxy(ctx context.Context, ls proxyListeners, routes string, o proxy.Options) error {
	cli, err := etcd.Open(a.etcdConfig())
	if err != nil {
		return err
	}
	defer cli.Close()
	follow, stop := context.WithCancel(context.Background())
	defer stop()
	table := proxy.NewTable(o.Host, o.Log)
	p, err := proxy.New(table, o)
	if err != nil {
		return fail(exitFailure, "mend what it names, or leave out its flag", "cannot start the proxy: %w", err)
	}
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		table.Follow(follow, cli, routes, o.Log)
	}()
	served := ls.serve(p)
	go func() {
		known, cancel := context.WithTimeout(follow, proxyKnows)
		defer cancel()
		table.AwaitLoaded(known)
		notifyReady()
	}()
	select {
	case err = <-served:
		if err == nil {
			err = errors.New("a listener was closed")
		}
		err = fmt.Errorf("cannot go on serving: %w", err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.Background(), proxyDrain)
	defer cancel()
	// Routes are followed until the last request is answered.
	err = errors.Join(err, p.Shutdown(drain))
	stop()
	<-followed
	return err
}
