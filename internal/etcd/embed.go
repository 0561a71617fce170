package etcd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
)

// ErrLocked means that another etcd uses the data directory.
var ErrLocked = errors.New("another etcd is using it")

// Server is an etcd of one member inside this process.
type Server struct {
	etcd *embed.Etcd
	lock *os.File
	logs zap.AtomicLevel
	once sync.Once

	endStreams context.CancelFunc
}

// Embed starts an etcd with its data in dir (made if absent, mode 0700),
// listening on the URLs; port 0 takes any free one. It returns once the server
// answers. Writes are synced to disk before they count. History older than an
// hour is compacted.
//
// It serves readers on unix sockets too, for those who have no network. Who
// may connect is for the caller to say: they are made for our own user alone.
func Embed(dir, clientURL, peerURL string, sockets ...Socket) (*Server, error) {
	lock, err := lockDir(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot start etcd in %s: %w", dir, err)
	}
	s, err := start(dir, clientURL, peerURL, sockets)
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("cannot start etcd in %s: %w", dir, err)
	}
	s.lock = lock
	return s, nil
}

func start(dir, clientURL, peerURL string, sockets []Socket) (*Server, error) {
	client, err := listenURL(clientURL)
	if err != nil {
		return nil, err
	}
	peer, err := listenURL(peerURL)
	if err != nil {
		return nil, err
	}
	c := embed.NewConfig()
	c.Name, c.Dir = "bulkhead", dir
	c.ListenClientUrls, c.AdvertiseClientUrls = []url.URL{*client}, []url.URL{*client}
	for _, s := range sockets {
		c.ListenClientUrls = append(c.ListenClientUrls, url.URL{Scheme: "unix", Path: s.Path})
	}
	c.ListenPeerUrls, c.AdvertisePeerUrls = []url.URL{*peer}, []url.URL{*peer}
	c.InitialCluster = c.InitialClusterFromName(c.Name)
	logs := zap.NewAtomicLevelAt(zap.ErrorLevel)
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.New(zapcore.NewCore(
		zapcore.NewConsoleEncoder(zap.NewProductionEncoderConfig()), zapcore.Lock(os.Stderr), logs)))
	c.AutoCompactionMode, c.AutoCompactionRetention = "periodic", "1h"
	c.QuotaBackendBytes = 8 << 30
	streams, end := context.WithCancel(context.Background())
	read := readers(sockets)
	c.GRPCAdditionalServerOptions = []grpc.ServerOption{grpc.ChainUnaryInterceptor(read.unary), grpc.ChainStreamInterceptor(read.stream, endWith(streams))}
	c.EnableGRPCGateway = false // it would pass readers' requests on as its own
	e, err := embed.StartEtcd(c)
	if err != nil {
		end()
		return nil, err
	}
	s := &Server{etcd: e, logs: logs, endStreams: end}
	select {
	case <-e.Server.ReadyNotify():
		return s, nil
	case err := <-e.Err():
		s.Close()
		return nil, fmt.Errorf("etcd ended while starting: %w", err)
	case <-time.After(60 * time.Second):
		s.Close()
		return nil, errors.New("etcd was not ready within a minute")
	}
}

// endWith ends every stream when ctx does: etcd would wait seven seconds for
// clients to leave that watch.
func endWith(ctx context.Context) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
		with, cancel := context.WithCancel(stream.Context())
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		return handle(srv, endingStream{stream, with})
	}
}

type endingStream struct {
	grpc.ServerStream
	ctx context.Context
}

// Context implements [grpc.ServerStream].
func (s endingStream) Context() context.Context { return s.ctx }

// listenURL checks that the URL's address is free, which etcd's own error
// doesn't say clearly, and puts a real port in place of 0.
func listenURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("%q is no URL like http://127.0.0.1:2379", text)
	}
	l, err := net.Listen("tcp", u.Host)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("the address %s is taken by another process (ss -ltnp shows which)", u.Host)
	case err != nil:
		return nil, fmt.Errorf("cannot listen on %s: %w", u.Host, err)
	}
	u.Host = l.Addr().String()
	return u, l.Close()
}

// lockDir makes dir and takes it for this process: first by a lock of our
// own, then by looking at etcd's, which etcd itself would wait for in silence.
func lockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := tryLock(filepath.Join(dir, "bulkhead.lock"), os.O_CREATE|os.O_RDWR)
	if err != nil {
		return nil, err
	}
	db, err := tryLock(filepath.Join(dir, "member", "snap", "db"), os.O_RDWR)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		lock.Close()
		return nil, err
	}
	if db != nil {
		db.Close()
	}
	return lock, nil
}

func tryLock(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, flags, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, ErrLocked
		}
		return nil, fmt.Errorf("cannot lock %s: %w", path, err)
	}
	return f, nil
}

// Endpoints are the URLs clients connect to.
func (s *Server) Endpoints() []string {
	var endpoints []string
	for _, l := range s.etcd.Clients {
		if l.Addr().Network() == "tcp" {
			endpoints = append(endpoints, "http://"+l.Addr().String())
		}
	}
	return endpoints
}

// Err delivers the error that ended the server, should it end by itself.
func (s *Server) Err() <-chan error { return s.etcd.Err() }

// Close stops the server and waits for that. Clients that hold streams, as a
// proxy does, lose them. A second call does nothing.
func (s *Server) Close() {
	s.once.Do(func() {
		s.logs.SetLevel(zap.FatalLevel) // its listeners' ends are no errors
		s.endStreams()
		s.etcd.Close()
		if s.lock != nil {
			s.lock.Close()
		}
	})
}
