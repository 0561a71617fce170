package scheduler

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/internal/etcd"
)

// atOnce is the most tenants planned between two writes, so that a leader with
// much to do still sees what changes meanwhile.
const atOnce = 4000

// lead schedules under a fence until ctx ends or another leads. Whenever a
// write fails it starts from a fresh list.
func lead(ctx context.Context, cli *clientv3.Client, fence etcd.Fence, o Options) error {
	l := &loop{cli: cli, fence: fence, Options: o, model: newSnapshot()}
	for {
		err := l.round(ctx)
		// Nothing that may still be on its way may be written after the next
		// list.
		for again := true; again; {
			o.Log.Warn("scheduler reads everything again", "error", err)
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(retryAfter):
			}
			if err = l.fence.Renew(ctx, cli); errors.Is(err, etcd.ErrFenced) {
				return err
			}
			again = err != nil
		}
	}
}

// loop is a leader at work.
type loop struct {
	Options
	cli   *clientv3.Client
	fence etcd.Fence
	model *snapshot
	ready bool  // the model has had its first list
	wrote int64 // revision of our last write: nothing is planned before it is seen
}

// round follows the keys from one list to the next failed write.
func (l *loop) round(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	batches := etcd.Follow(ctx, l.cli, watched...)
	defer func() {
		cancel()
		for range batches { // until the watch has ended
		}
	}()
	l.ready = false
	tick := time.NewTicker(l.Tick)
	defer tick.Stop()
	for {
		select {
		case b, ok := <-batches:
			if !ok {
				return errors.New("the watch ended")
			}
			l.take(b)
		case now := <-tick.C:
			if l.ready { // else it judges by what may be long past
				l.model.tick(now, l.Grace)
			}
		}
		if err := l.settle(ctx); err != nil {
			return err
		}
	}
}

func (l *loop) take(b etcd.Batch) {
	if b.Snapshot {
		l.Log.Info("scheduler has listed the cluster", "cause", b.Cause, "keys", len(b.Events), "revision", b.Revision)
		l.ready, l.wrote = true, 0 // after a restore our write may never be seen
	}
	l.model = l.model.apply(b, time.Now())
}

// settle plans and writes once the model has caught up with our last write.
func (l *loop) settle(ctx context.Context) error {
	for l.ready && l.model.revision >= l.wrote && l.model.work() {
		if err := l.seal(ctx); err != nil {
			return err
		}
		if l.model.revision < l.wrote {
			break // the watch brings what was sealed
		}
		groups := l.model.plan(time.Now(), l.Grace, atOnce)
		if len(groups) > 0 {
			revision, err := etcd.Commit(ctx, l.cli, &l.fence, groups...)
			if err != nil {
				return fmt.Errorf("cannot write the plan: %w", err)
			}
			l.wrote = revision
		}
		l.model.rolls.tell(l.Log)
		if err := l.read(ctx); err != nil {
			return err
		}
	}
	return nil
}

// tick marks what time alone changes: tenants of hosts whose grace has run
// out, and those that wait for a moment to pass.
func (s *snapshot) tick(now time.Time, grace time.Duration) {
	for name := range s.timed {
		s.mark(name)
	}
	clear(s.timed)
	s.writeOff(now, grace)
	s.judge(now)
	s.scale(now)
	s.even(now)
	s.rolls.stir(true)
}
