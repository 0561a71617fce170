package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/xid"
	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"

	"bulkhead/internal/frames"
)

// Limits on what a client may send, and how slowly.
const (
	maxHeader  = 32 << 10         // bytes of request line and headers
	headerTime = 10 * time.Second // from a request's first byte to its headers' last
	idleTime   = 75 * time.Second // between requests on a connection
	bodyStall  = 30 * time.Second // without a byte of a request's body
	writeStall = 30 * time.Second // without a byte of an answer taken
	maxConns   = 16384            // connections at once
)

// Options configure a proxy.
type Options struct {
	Host   string        // the name of the host it runs on
	Domain string        // serve {tenant}.<Domain> too; empty: not
	Hold   time.Duration // how long a request waits for an instance that starts
	Access io.Writer     // gets one JSON record a request
	Log    *slog.Logger  // required
	// Leave is how long it goes on taking requests once it is told to shut
	// down: so long a load balancer may take to see that it is not ready.
	Leave time.Duration
	// Idle is how long, once it takes no more connections, those of HTTP/1.1 that
	// are open and idle stay so: a request may be under way on one, and its client
	// could not tell whether it was begun. What comes is answered, and says that
	// the connection ends with it (RFC 9112, 9.6).
	Idle time.Duration
	// Leaving is a file; while it is there, the proxy says that it is not
	// ready, and serves as ever. Empty: there is none.
	Leaving string
	// Failures is the file in which requests are counted that the platform
	// failed (docs/rollouts.md says which), in a directory that the proxy owns;
	// it is the same for proxies beside each other. Empty: they aren't counted.
	Failures string
	// Images is the socket at which this host's agent answers other hosts that
	// want an image; empty: none do.
	Images string

	Peers *PeerFiles        // for other hosts' proxies; nil: this host serves alone
	TLS   *CertificateFiles // for clients
	ACME  *ACME             // likewise, from a certificate authority; needs Domain
}

// Proxy takes HTTP requests and passes them to instances.
type Proxy struct {
	opts     Options
	table    *Table
	server   *fasthttp.Server
	presence *presence
	tunnels  tunnels
	access   *zerolog.Logger
	buffer   *buffered
	failures *failures
	inFlight *shares         // requests, of tenants
	clients  *shares         // connections, of addresses
	ctx      context.Context // until all has ended
	stop     context.CancelFunc
	closing  context.Context // until no more is taken
	close    context.CancelFunc
	leaving  atomic.Bool

	peerTLS     *peerTLS
	inbounds    inbounds
	tls         *tls.Config // for clients; nil: they have none
	acme        *acme       // where its certificates come from: this,
	certificate *pair       // or this
	h2          *http.Server
}

// New makes a proxy that routes by table. The error says which file of the
// options cannot be used.
func New(table *Table, opts Options) (*Proxy, error) {
	p := &Proxy{opts: opts, table: table, inFlight: newShares(maxInFlight), clients: newShares(maxConns)}
	if err := p.readFiles(); err != nil {
		return nil, err
	}
	p.presence, p.buffer = newPresence(), newBuffered(opts.Access)
	p.access, p.failures = newAccessLog(p.buffer), newFailures(opts.Failures, opts.Log)
	p.ctx, p.stop = context.WithCancel(context.Background())
	p.closing, p.close = context.WithCancel(context.Background())
	p.h2 = p.newH2()
	p.server = &fasthttp.Server{
		Handler:                       p.handle,
		ExpectHandler:                 p.expect,
		ErrorHandler:                  p.unreadable,
		HeaderReceived:                bodyTime,
		Logger:                        serverLog{opts.Log},
		ReadBufferSize:                maxHeader,
		ReadTimeout:                   headerTime,
		IdleTimeout:                   idleTime,
		MaxRequestBodySize:            inlineBody,
		Concurrency:                   maxConns,
		StreamRequestBody:             true,
		DisablePreParseMultipartForm:  true,
		DisableHeaderNamesNormalizing: true,
		SecureErrorLogMessage:         true,
		NoDefaultServerHeader:         true,
		NoDefaultContentType:          true,
		CloseOnShutdown:               true,
		LazyRequestTime:               true,
	}
	return p, nil
}

// readFiles reads certificates.
func (p *Proxy) readFiles() (err error) {
	say := func(err error) { p.opts.Log.Error("no good certificate", "error", err) }
	if p.opts.Peers != nil {
		if p.peerTLS, err = newPeerTLS(p.opts.Host, *p.opts.Peers, say); err != nil {
			return err
		}
		p.table.setDialer(p.peerTLS.dial)
	}
	return p.readClientTLS(say)
}

// Serve takes connections until Shutdown.
func (p *Proxy) Serve(ln net.Listener) error {
	stop := context.AfterFunc(p.closing, func() { ln.Close() })
	defer stop()
	return p.serve(sharedListener{ln, p})
}

// serve takes connections that have a place.
func (p *Proxy) serve(ln net.Listener) error {
	if err := p.server.Serve(stallListener{ln}); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("cannot serve: %w", err)
	}
	return nil
}

// Shutdown goes on for [Options.Leave], takes no more connections, for
// [Options.Idle] answers what still comes on those that it has, waits for what is
// in flight until ctx ends, and closes.
func (p *Proxy) Shutdown(ctx context.Context) error {
	p.leave(ctx)
	p.close()
	var work sync.WaitGroup
	var h2, err error
	work.Go(func() { p.tunnels.drain(ctx) })
	work.Go(func() { p.inbounds.drain(ctx) })
	work.Go(func() { h2 = p.h2.Shutdown(ctx) })
	work.Go(func() {
		p.idle(ctx)
		if err = p.server.ShutdownWithContext(ctx); errors.Is(err, net.ErrClosed) {
			err = nil // the listeners were
		}
	})
	work.Wait()
	p.tunnels.drain(ctx) // of requests that were upgraded meanwhile
	p.h2.Close()
	p.stop()
	p.table.close()
	p.presence.close()
	p.buffer.Close()
	p.failures.Close()
	if err = errors.Join(err, h2); err != nil {
		return fmt.Errorf("cannot shut down in time: %w", err)
	}
	return nil
}

// leave says that it is not ready any more, and gives load balancers the time
// to see that.
func (p *Proxy) leave(ctx context.Context) {
	p.leaving.Store(true)
	select {
	case <-time.After(p.opts.Leave):
	case <-ctx.Done():
	}
}

// idle waits until no connection of HTTP/1.1 is open, for [Options.Idle].
func (p *Proxy) idle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, p.opts.Idle)
	defer cancel()
	// fasthttp takes one off what it counts, for a listener; there is none now.
	for tick := time.Tick(50 * time.Millisecond); p.server.GetOpenConnectionsCount() >= 0; {
		select {
		case <-tick:
		case <-ctx.Done():
			return
		}
	}
}

var exchanges = sync.Pool{New: func() any { return &exchange{} }}

func (p *Proxy) handle(ctx *fasthttp.RequestCtx) {
	if p.closing.Err() != nil {
		ctx.SetConnectionClose()
	}
	if x := expecting(ctx).expecting.Swap(nil); x != nil {
		x.admitted()
		return
	}
	p.exchange(ctx).serve()
}

func (p *Proxy) exchange(ctx *fasthttp.RequestCtx) *exchange {
	x := exchanges.Get().(*exchange)
	*x = exchange{ctx: ctx, delivery: delivery{p: p, rec: record{
		start: time.Now(), request: xid.New().String(), client: ctx.RemoteAddr().String(),
		method: string(ctx.Method()[:min(len(ctx.Method()), maxMethod)]), target: string(ctx.Request.Header.RequestURI()),
	}}}
	return x
}

// end counts a request that has ended if we failed it, and logs it.
func (p *Proxy) end(r *record) {
	if r.failed {
		p.failures.one()
	}
	if r.counted {
		p.inFlight.give(r.tenant)
	}
	r.log(p.access)
}

// done ends an exchange and gives it back.
func (p *Proxy) done(x *exchange) {
	p.end(&x.rec)
	streamed := x.streams
	*x = exchange{}
	if !streamed { // fasthttp may still hold one that was a body
		exchanges.Put(x)
	}
}

// bodyTime gives the body, of which fasthttp reads the first bytes before it
// asks us, a time of its own.
func bodyTime(h *fasthttp.RequestHeader) (c fasthttp.RequestConfig) {
	if h.ContentLength() > 0 {
		c.ReadTimeout = bodyStall
	}
	return c
}

// unreadable answers bytes that are no request.
func (p *Proxy) unreadable(ctx *fasthttp.RequestCtx, err error) {
	rec := record{start: time.Now(), request: xid.New().String(), client: ctx.RemoteAddr().String()}
	var small *fasthttp.ErrSmallBuffer
	var timeout net.Error
	r := refuse(400, "bad_request", "the request cannot be read as HTTP/1.1")
	switch {
	case errors.As(err, &small):
		r = tooBig
	case errors.Is(err, fasthttp.ErrUnsupportedRequestMethod):
		r = methodUnknown
	case errors.Is(err, io.ErrUnexpectedEOF):
		r = refuse(400, "bad_request", "the request ended before it was whole")
	case errors.As(err, &timeout) && timeout.Timeout():
		r = refuse(408, "request_timeout", "the request did not arrive in time: its headers may take %v, the first bytes of its body %v", headerTime, bodyStall)
	}
	if x := expecting(ctx).expecting.Swap(nil); x != nil {
		x.stream.Reset(frames.CodeCancelled, "the request's body was cut short")
		x.finish(r)
		return
	}
	r.write(&ctx.Response, rec.request)
	rec.refused(r)
	p.end(&rec)
}

// serverLog passes on what fasthttp reports, which names no request.
type serverLog struct{ *slog.Logger }

func (l serverLog) Printf(format string, args ...any) {
	l.Debug(fmt.Sprintf(format, args...))
}
