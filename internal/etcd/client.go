package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// ErrUnreachable means that no endpoint answered in time.
var ErrUnreachable = errors.New("no etcd endpoint answers")

// reconnect keeps trying every few seconds: gRPC's own default waits up to two
// minutes, long after etcd is back.
var reconnect = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 3 * time.Second},
	MinConnectTimeout: 3 * time.Second,
}

// Config says how to reach etcd.
type Config struct {
	Endpoints []string // URLs; at least one
	CA        string   // file: who may sign the servers' certificates
	Cert      string   // file: our certificate, its CN is our etcd user
	Key       string   // file: its private key
}

// Open makes a client. It does not wait for a connection: a client opened
// while etcd is away works once etcd is there. Close it after use.
func Open(c Config) (*clientv3.Client, error) {
	if len(c.Endpoints) == 0 {
		return nil, errors.New("cannot open etcd client: no endpoints given")
	}
	security, err := c.tls()
	if err != nil {
		return nil, fmt.Errorf("cannot open etcd client: %w", err)
	}
	cli, err := clientv3.New(clientv3.Config{
		Endpoints:            c.Endpoints,
		TLS:                  security,
		DialTimeout:          5 * time.Second,
		DialKeepAliveTime:    5 * time.Second,
		DialKeepAliveTimeout: 5 * time.Second,
		Logger:               zap.NewNop(),
		DialOptions:          []grpc.DialOption{grpc.WithConnectParams(reconnect)},
	})
	if err != nil {
		return nil, fmt.Errorf("cannot open etcd client for %s: %w", strings.Join(c.Endpoints, ","), err)
	}
	return cli, nil
}

func (c Config) tls() (*tls.Config, error) {
	if c.CA == "" && c.Cert == "" && c.Key == "" {
		return nil, nil
	}
	if (c.Cert == "") != (c.Key == "") {
		return nil, errors.New("a client certificate and its key come together: only one is given")
	}
	info := transport.TLSInfo{TrustedCAFile: c.CA, CertFile: c.Cert, KeyFile: c.Key}
	return info.ClientConfig()
}

// Reach returns nil once etcd answers a linearizable read, ErrUnreachable
// when it has not within the timeout.
func Reach(ctx context.Context, cli *clientv3.Client, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_, err := cli.Get(ctx, "\x00", clientv3.WithCountOnly())
	if err != nil && !errors.Is(err, rpctypes.ErrPermissionDenied) { // that is an answer too
		return fmt.Errorf("%w at %s within %s: %w", ErrUnreachable, strings.Join(cli.Endpoints(), ","), timeout, err)
	}
	return nil
}
