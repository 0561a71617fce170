package etcd

import (
	"context"
	"errors"
	"fmt"
	"os"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"
)

// Member runs one member of an etcd cluster, as a file of etcd's own format
// says (etcd --config-file), until ctx ends. It calls ready once the member
// serves, which it does when most members of the cluster are there. It returns
// [ErrLocked] when another etcd uses the data directory.
func Member(ctx context.Context, file string, ready func()) error {
	c, err := memberConfig(file)
	if err != nil {
		return fmt.Errorf("cannot run etcd by %s: %w", file, err)
	}
	lock, err := lockDir(c.Dir)
	if err != nil {
		return fmt.Errorf("cannot run etcd in %s: %w", c.Dir, err)
	}
	defer lock.Close()
	streams, end := context.WithCancel(context.Background())
	defer end()
	c.GRPCAdditionalServerOptions = []grpc.ServerOption{grpc.ChainStreamInterceptor(endWith(streams))}
	e, err := embed.StartEtcd(c)
	if err != nil {
		return fmt.Errorf("cannot start etcd: %w", err)
	}
	defer e.Close()
	defer end() // before Close, which would wait for clients that watch
	select {
	case <-e.Server.ReadyNotify():
		ready()
	case err := <-e.Err():
		return fmt.Errorf("etcd ended while starting: %w", err)
	case <-e.Server.StopNotify():
		return errStopped
	case <-ctx.Done():
		return nil
	}
	select {
	case err := <-e.Err():
		return fmt.Errorf("etcd ended: %w", err)
	case <-e.Server.StopNotify():
		return errStopped
	case <-ctx.Done():
		return nil
	}
}

// errStopped: the cluster no longer knows the member.
var errStopped = errors.New("etcd stopped by itself: was this member removed from the cluster?")

// memberConfig reads the file, and holds it to what keeps a cluster closed:
// who has no certificate gets in neither as a client nor as a member.
func memberConfig(file string) (*embed.Config, error) {
	c, err := embed.ConfigFromFile(file)
	if err != nil {
		return nil, err
	}
	for what, bad := range map[string]bool{
		"client-transport-security: client-cert-auth": !c.ClientTLSInfo.ClientCertAuth,
		"peer-transport-security: client-cert-auth":   !c.PeerTLSInfo.ClientCertAuth,
	} {
		if bad {
			return nil, fmt.Errorf("%s is not true: anybody could get in", what)
		}
	}
	if c.EnableGRPCGateway {
		return nil, errors.New("enable-grpc-gateway is not false: it passes requests on under its own name")
	}
	level, err := zapcore.ParseLevel(c.LogLevel)
	if err != nil {
		return nil, err
	}
	encoding := zap.NewProductionEncoderConfig()
	encoding.TimeKey = "" // the journal has it
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.New(zapcore.NewCore(zapcore.NewConsoleEncoder(encoding), zapcore.Lock(os.Stderr), level)))
	return c, nil
}
