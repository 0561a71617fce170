package etcd

import (
	"context"
	"errors"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

var errOther = errors.New("another etcd cluster answers now")

// prober asks etcd how far it is, apart from the watch's loop, because asking
// blocks while there is no connection.
type prober struct {
	cli      *clientv3.Client
	key      string // one that we may read
	cluster  uint64
	progress chan struct{} // asked to have the watchers told
	revision chan int64    // asked whether the store is at least here
}

// ask has the watchers told how far they are when changes wait for that, and
// otherwise makes sure that the store has not been set back: a watch on a
// future revision waits in silence, and progress is not reported to it.
func (p prober) ask(m *merge) {
	if len(m.pending) > 0 {
		select {
		case p.progress <- struct{}{}:
		default:
		}
		return
	}
	select {
	case p.revision <- m.delivered:
	default:
	}
}

func (p prober) runProgress(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.progress:
			_ = p.cli.RequestProgress(ctx) // unanswered, it is asked again
		}
	}
}

func (p prober) runRevision(ctx context.Context, lost chan<- error) {
	for {
		select {
		case <-ctx.Done():
			return
		case delivered := <-p.revision:
			err := p.compare(ctx, delivered)
			if err == nil {
				continue
			}
			select {
			case lost <- err:
			case <-ctx.Done():
			}
			return
		}
	}
}

// compare returns an error when the store is known to be behind delivered, or
// another one; not when it doesn't answer.
func (p prober) compare(ctx context.Context, delivered int64) error {
	r, err := p.cli.Get(ctx, p.key, clientv3.WithCountOnly())
	switch {
	case err != nil:
		return nil
	case r.Header.ClusterId != p.cluster:
		return errOther
	case r.Header.Revision < delivered:
		return fmt.Errorf("the store went back from revision %d to %d", delivered, r.Header.Revision)
	}
	return nil
}
