package modules

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// Options say how a builder runs.
type Options struct {
	Name  string // of its host
	Maker *Maker
	Log   *slog.Logger // slog.Default()
	// Builds is told when it is this builder that builds, if set.
	Builds func(bool)
}

const (
	retryAfter = time.Second
	readKeys   = 32 // functions' values at a time: each may have 1.25 MiB
	leaseFor   = 10 // seconds that a builder that died still has the builds
)

// Run builds what is wanted whenever no other builder does, until ctx ends. While
// etcd is away it tries on.
func Run(ctx context.Context, cli *clientv3.Client, o Options) error {
	if o.Name == "" || o.Maker == nil {
		return errors.New("cannot run a builder: it needs a name and a maker")
	}
	o.Log = cmp.Or(o.Log, slog.Default())
	if o.Builds == nil {
		o.Builds = func(bool) {}
	}
	for ctx.Err() == nil {
		if err := campaign(ctx, cli, o); err != nil && ctx.Err() == nil {
			o.Log.Warn("builder does not build, trying again", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(retryAfter):
			}
		}
	}
	return nil
}

// campaign waits for its turn and builds until that ends.
func campaign(ctx context.Context, cli *clientv3.Client, o Options) error {
	session, err := concurrency.NewSession(cli, concurrency.WithTTL(leaseFor), concurrency.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("cannot get a lease: %w", err)
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		session.Orphan()
		_, _ = cli.Revoke(ctx, session.Lease()) // else it runs out
	}()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-session.Done():
			cancel(errors.New("the lease ran out"))
		case <-stop:
		}
	}()
	election := concurrency.NewElection(session, cluster.BuilderElection)
	if err := election.Campaign(ctx, o.Name); err != nil {
		return fmt.Errorf("cannot campaign: %w", errors.Join(err, context.Cause(ctx)))
	}
	o.Builds(true)
	defer o.Builds(false)
	b := &builder{cli: cli, o: o, model: newModel(), fence: etcd.Fence{Key: election.Key(), Revision: election.Rev()}}
	return b.run(ctx)
}
