package scheduler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"bulkhead/cluster"
	"bulkhead/internal/audit"
	"bulkhead/internal/etcd"
)

// Options say how a scheduler runs. The zero value of each means its default.
type Options struct {
	Name  string        // shown as the leader's name; required
	Grace time.Duration // how long a host may be gone before it is written off; 30 s
	Lease time.Duration // how long a leader that died still leads; 10 s
	Tick  time.Duration // how often time alone is looked at; 1 s
	Log   *slog.Logger  // slog.Default()
	// Led is told of every change of our leadership, if set.
	Led func(leading bool)
}

func (o Options) withDefaults() Options {
	if o.Grace == 0 {
		o.Grace = 30 * time.Second
	}
	if o.Lease == 0 {
		o.Lease = 10 * time.Second
	}
	if o.Tick == 0 {
		o.Tick = time.Second
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Led == nil {
		o.Led = func(bool) {}
	}
	return o
}

// retryAfter is the pause between attempts to lead.
const retryAfter = time.Second

// Run campaigns and, whenever elected, schedules, until ctx ends; it returns
// once all it started has ended. While etcd is away it tries on.
func Run(ctx context.Context, cli *clientv3.Client, o Options) error {
	if o.Name == "" {
		return errors.New("cannot run scheduler: it needs a name")
	}
	o = o.withDefaults()
	for ctx.Err() == nil {
		if err := campaign(ctx, cli, o); err != nil && ctx.Err() == nil {
			o.Log.Warn("scheduler does not lead, trying again", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(retryAfter):
			}
		}
	}
	return nil
}

// campaign waits to be elected and leads until that ends.
func campaign(ctx context.Context, cli *clientv3.Client, o Options) error {
	session, err := concurrency.NewSession(cli, concurrency.WithTTL(int(max(o.Lease/time.Second, 1))), concurrency.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("cannot get a lease: %w", err)
	}
	defer withdraw(session)
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil)
	wg.Go(func() {
		select {
		case <-session.Done():
			cancel(errors.New("the lease ran out"))
		case <-ctx.Done():
		}
	})
	election := concurrency.NewElection(session, cluster.ElectionPrefix+"scheduler")
	if err := election.Campaign(ctx, o.Name); err != nil {
		return fmt.Errorf("cannot campaign: %w", errors.Join(err, context.Cause(ctx)))
	}
	o.Led(true)
	defer o.Led(false)
	o.Log.Info("scheduler leads", "name", o.Name)
	wg.Go(func() { audit.Keep(ctx, cli, o.Log) })
	return lead(ctx, cli, etcd.Fence{Key: election.Key(), Revision: election.Rev()}, o)
}

// withdraw gives up the lease, and with it the election's key, at once.
func withdraw(session *concurrency.Session) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	session.Orphan()
	_, _ = session.Client().Revoke(ctx, session.Lease()) // else it runs out
}
