package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
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
	ctx      context.Context
	stop     context.CancelFunc
}

// New makes a proxy that routes by table.
func New(table *Table, opts Options) *Proxy {
	p := &Proxy{opts: opts, table: table, presence: newPresence(), buffer: newBuffered(opts.Access)}
	p.access = newAccessLog(p.buffer)
	p.ctx, p.stop = context.WithCancel(context.Background())
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
	return p
}

// Serve takes connections until Shutdown.
func (p *Proxy) Serve(ln net.Listener) error {
	if err := p.server.Serve(stallListener{ln}); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("cannot serve: %w", err)
	}
	return nil
}

// Shutdown takes no more requests, waits for those in flight until ctx ends,
// and closes.
func (p *Proxy) Shutdown(ctx context.Context) error {
	tunnels := make(chan struct{})
	go func() { p.tunnels.drain(ctx); close(tunnels) }()
	err := p.server.ShutdownWithContext(ctx)
	<-tunnels
	p.tunnels.drain(ctx) // of requests that were upgraded meanwhile
	p.stop()
	p.table.close()
	p.presence.close()
	p.buffer.Close()
	if err != nil {
		return fmt.Errorf("cannot shut down in time: %w", err)
	}
	return nil
}

var exchanges = sync.Pool{New: func() any { return &exchange{} }}

func (p *Proxy) handle(ctx *fasthttp.RequestCtx) {
	if x := expecting(ctx).expecting.Swap(nil); x != nil {
		x.admitted()
		return
	}
	p.exchange(ctx).serve()
}

func (p *Proxy) exchange(ctx *fasthttp.RequestCtx) *exchange {
	x := exchanges.Get().(*exchange)
	*x = exchange{p: p, ctx: ctx, rec: record{
		start: time.Now(), request: xid.New().String(), client: ctx.RemoteAddr().String(),
		method: string(ctx.Method()[:min(len(ctx.Method()), maxMethod)]), target: string(ctx.Request.Header.RequestURI()),
	}}
	return x
}

// done logs an exchange and gives it back.
func (p *Proxy) done(x *exchange) {
	x.rec.log(p.access)
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
	rec.status, rec.cause = r.status, r.cause
	rec.log(p.access)
}

// serverLog passes on what fasthttp reports, which names no request.
type serverLog struct{ *slog.Logger }

func (l serverLog) Printf(format string, args ...any) {
	l.Debug(fmt.Sprintf(format, args...))
}
