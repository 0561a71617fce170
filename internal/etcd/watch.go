package etcd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"
)

// Event is a key's new value, or its end.
type Event struct {
	Key      string
	Value    []byte
	Revision int64 // of the change: the key's mod revision
	Created  int64 // revision at which the key came to be, as long as it is there
	Deleted  bool
	Before   []byte // the value until then, where [Prefix] asks for it and etcd has it still
}

// Batch is what a watch delivers. A snapshot holds every key under the
// watched prefixes at Revision, so a key that is not in it is gone; Cause says
// in words why it was listed (again). Any other batch holds the changes up to
// Revision in the order of their revisions. All changes of one transaction
// come in one batch, whichever prefixes they fall under.
type Batch struct {
	Snapshot bool
	Cause    string
	Revision int64
	Events   []Event

	cluster uint64 // etcd's ID of the cluster that answered
}

// Watch follows the keys under prefixes until ctx ends, and closes the channel
// then. The first batch is a snapshot. When history is lost (compaction, a
// restore that set revisions back, a member without leader) it lists again
// and delivers a fresh snapshot; a connection that comes back within history
// is resumed without one. While etcd is away it delivers nothing and tries on.
func Watch(ctx context.Context, cli *clientv3.Client, prefixes ...string) <-chan Batch {
	return Follow(ctx, cli, whole(prefixes)...)
}

// Follow is [Watch] with a choice for each prefix.
func Follow(ctx context.Context, cli *clientv3.Client, prefixes ...Prefix) <-chan Batch {
	w := &watch{cli: cli, prefixes: prefixes, out: make(chan Batch)}
	go w.run(ctx)
	return w.out
}

// Resume follows the keys under prefixes from the revision after since on: of a
// list, a batch or what somebody wrote down of one. It sends each batch to take,
// also those without events, which come now and then and tell how far it is. It
// returns take's error, or why it cannot go on: [ErrCompacted] when etcd does not
// have all that has changed since any more.
func Resume(ctx context.Context, cli *clientv3.Client, since int64, take func(Batch) error, prefixes ...Prefix) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r, err := cli.Get(ctx, prefixes[0].Name, clientv3.WithCountOnly())
	switch {
	case err != nil:
		return fmt.Errorf("cannot follow etcd keys: %w", err)
	case r.Header.Revision < since:
		return fmt.Errorf("cannot follow etcd keys: %w: the store is at revision %d, before %d", ErrCompacted, r.Header.Revision, since)
	}
	w := &watch{cli: cli, prefixes: prefixes, out: make(chan Batch), idle: true}
	ended := make(chan error, 1)
	go func() {
		defer close(w.out)
		ended <- w.follow(ctx, Batch{Revision: since, cluster: r.Header.ClusterId})
	}()
	var failed error
	for b := range w.out {
		if failed == nil {
			if failed = take(b); failed != nil {
				cancel()
			}
		}
	}
	return cmp.Or(failed, <-ended)
}

const (
	backoffMin = 50 * time.Millisecond
	backoffMax = 3 * time.Second
	// probeEvery is how often a quiet watch asks for the store's revision, so
	// that a restore doesn't leave it waiting for a future that is past.
	probeEvery = 5 * time.Second
	// stuckAfter is how long changes may wait for it before the watch is begun
	// anew.
	stuckAfter = 15 * time.Second
	// probeAgain is how often it asks while changes wait for the answer.
	probeAgain = 250 * time.Millisecond
)

type watch struct {
	cli      *clientv3.Client
	prefixes []Prefix
	out      chan Batch
	idle     bool // send batches without events too, which tell how far it is
}

func (w *watch) run(ctx context.Context) {
	defer close(w.out)
	cause, backoff := "first list", backoffMin
	for ctx.Err() == nil {
		snapshot, err := list(ctx, w.cli, w.prefixes)
		if err != nil {
			if backoff == backoffMin && ctx.Err() == nil {
				slog.Warn("cannot list etcd keys, trying on", "prefixes", w.prefixes, "error", err)
			}
			sleep(ctx, backoff)
			backoff = min(2*backoff, backoffMax)
			continue
		}
		backoff = backoffMin
		snapshot.Cause = cause
		if !w.send(ctx, snapshot) {
			return
		}
		cause = w.follow(ctx, snapshot).Error()
		sleep(ctx, backoffMin) // a watch that fails at once must not spin
	}
}

func (w *watch) send(ctx context.Context, b Batch) bool {
	select {
	case w.out <- b:
		return true
	case <-ctx.Done():
		return false
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// tagged is a response of the watcher of one prefix.
type tagged struct {
	prefix int
	clientv3.WatchResponse
}

// follow delivers the changes after a snapshot until history is lost, and says
// how.
func (w *watch) follow(ctx context.Context, from Batch) error {
	ctx, cancel := context.WithCancel(ownStream(clientv3.WithRequireLeader(ctx)))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	responses, lost := make(chan tagged), make(chan error)
	for i, prefix := range w.prefixes {
		opts := []clientv3.OpOption{clientv3.WithRange(prefix.end()), clientv3.WithRev(from.Revision + 1), clientv3.WithProgressNotify()}
		if prefix.Before {
			opts = append(opts, clientv3.WithPrevKV())
		}
		ch := w.cli.Watch(ctx, prefix.Name, opts...)
		wg.Go(func() { forward(ctx, i, ch, responses) })
	}
	p := prober{w.cli, w.prefixes[0].Name, from.cluster, make(chan struct{}, 1), make(chan int64, 1)}
	wg.Go(func() { p.runProgress(ctx) })
	wg.Go(func() { p.runRevision(ctx, lost) })

	m := newMerge(len(w.prefixes), from.Revision)
	sent := from.Revision
	timer := time.NewTimer(probeEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-lost:
			return err
		case <-timer.C:
			if m.stuck() {
				return fmt.Errorf("etcd has not said within %s how far the watch is", stuckAfter)
			}
			p.ask(m)
		case r := <-responses:
			if err := ended(r, from.cluster); err != nil {
				return err
			}
			b := m.add(r)
			if (len(b.Events) > 0 || w.idle && b.Revision > sent) && !w.send(ctx, b) {
				return ctx.Err()
			}
			sent = b.Revision
			if len(m.pending) > 0 && !r.IsProgressNotify() {
				p.ask(m)
			}
		}
		timer.Reset(m.patience())
	}
}

var streams atomic.Int64

// ownStream gives a watch a stream of its own: the client puts watches with
// equal metadata on one, and etcd reports no progress to any watcher of a
// stream while one of them has begun past the store's revision, as every watch
// does that begins after a list.
func ownStream(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "bulkhead-watch", strconv.FormatInt(streams.Add(1), 10))
}

// forward tags what ch brings; a channel closed by the client counts as a
// response that says so.
func forward(ctx context.Context, i int, ch clientv3.WatchChan, responses chan<- tagged) {
	for {
		r, ok := <-ch
		if !ok {
			r = clientv3.WatchResponse{Canceled: true}
		}
		select {
		case responses <- tagged{i, r}:
		case <-ctx.Done():
			return
		}
		if !ok {
			return
		}
	}
}

// ended returns why a watch cannot go on after r, if it cannot.
func ended(r tagged, cluster uint64) error {
	switch {
	case r.CompactRevision != 0:
		return fmt.Errorf("%w: history up to revision %d", ErrCompacted, r.CompactRevision)
	case r.Canceled && r.Err() != nil:
		return fmt.Errorf("etcd ended the watch: %w", r.Err())
	case r.Canceled:
		return errors.New("etcd ended the watch")
	case r.Header.ClusterId != cluster:
		return errOther
	}
	return nil
}
