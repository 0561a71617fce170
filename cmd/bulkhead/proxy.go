package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"bulkhead/internal/etcd"
	"bulkhead/internal/handover"
	"bulkhead/proxy"
)

// proxyHold is how long a request waits for an instance that starts.
const proxyHold = 30 * time.Second

// proxyDrain bounds how long requests in flight hold up the proxy's end; its
// unit kills it after 60 s.
const proxyDrain = 55 * time.Second

func newProxy(a *app) *cobra.Command {
	var host, domain, state, listen string
	cmd := &cobra.Command{
		Use:   "proxy --host NAME",
		Short: "Serve as a host's proxy (run by its unit)",
		Long: `proxy takes requests for any tenant and passes them to ready instances on
this host. It is started by bulkhead-proxy.socket, whose sockets it takes over;
--listen makes it open one itself. Access records go to standard output, one
JSON object a request.`,
		Example: `  bulkhead proxy --host h1 --listen 127.0.0.1:8080 --state /var/lib/bulkhead/proxy`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if os.Getenv("GOMAXPROCS") == "" {
				// The other half is for runners and functions; waking more
				// cores than there are to spare costs more than it brings.
				runtime.GOMAXPROCS(max(1, runtime.NumCPU()/2))
			}
			ls, err := proxyListeners(listen)
			if err != nil {
				return err
			}
			return a.serveProxy(cmd.Context(), ls, filepath.Join(state, "routes.json"), proxy.Options{
				Host: host, Domain: domain, Hold: proxyHold, Access: a.out,
				Log: slog.New(slog.NewTextHandler(a.stdio.err, nil)),
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&host, "host", "", "this host's name")
	f.StringVar(&domain, "domain", "", "serve <tenant>.DOMAIN too")
	f.StringVar(&state, "state", "/var/lib/bulkhead/proxy", "directory where routes are kept for the next start")
	f.StringVar(&listen, "listen", "", "address to listen on, when no socket is handed over")
	_ = cmd.MarkFlagRequired("host")
	return cmd
}

// proxyListeners are the sockets that our unit hands over, or one of our own.
func proxyListeners(listen string) ([]net.Listener, error) {
	if listen != "" {
		ln, err := net.Listen("tcp", listen)
		if err != nil {
			return nil, fail(exitFailure, "choose another --listen, or stop what uses it", "cannot listen: %w", err)
		}
		return []net.Listener{ln}, nil
	}
	ls, err := handover.Listeners()
	if err != nil {
		return nil, err
	}
	if len(ls) == 0 {
		return nil, fail(exitUsage, "give --listen, or start bulkhead-proxy.socket", "no socket was handed over")
	}
	return ls, nil
}

func (a *app) serveProxy(ctx context.Context, ls []net.Listener, routes string, o proxy.Options) error {
	cli, err := etcd.Open(a.etcdConfig())
	if err != nil {
		return err
	}
	defer cli.Close()
	follow, stop := context.WithCancel(context.Background())
	defer stop()
	table := proxy.NewTable(o.Host)
	p := proxy.New(table, o)
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		table.Follow(follow, cli, routes, o.Log)
	}()
	served := make(chan error, len(ls))
	for _, ln := range ls {
		go func() { served <- p.Serve(ln) }()
	}
	select {
	case err = <-served:
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
