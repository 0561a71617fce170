package etcdmem

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"
)

// watcher is a process's clientv3.Watcher.
type watcher struct {
	conn   *Conn
	mu     sync.Mutex
	groups map[string][]*watch // what would share a stream, by its metadata
}

var _ clientv3.Watcher = (*watcher)(nil)

// watch is one of its watches. Its fields are guarded by the store's lock.
type watch struct {
	conn     *Conn
	key, end []byte
	from     int64 // revision that it asked for
	seen     int64 // revision up to which it has been delivered
	answers  *queue[clientv3.WatchResponse]
}

// Watch implements [clientv3.Watcher].
func (w *watcher) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	op := clientv3.OpGet(key, opts...)
	one := &watch{conn: w.conn, key: op.KeyBytes(), end: op.RangeBytes(), from: op.Rev(), answers: newQueue[clientv3.WatchResponse]()}
	s := w.conn.store
	s.mu.Lock()
	if one.from == 0 {
		one.from = s.revision + 1
	}
	one.seen = one.from - 1
	s.watches[one] = false
	s.resume()
	s.mu.Unlock()
	w.mu.Lock()
	w.groups[group(ctx)] = append(w.groups[group(ctx)], one)
	w.mu.Unlock()
	out := make(chan clientv3.WatchResponse)
	go func() {
		defer close(out)
		defer w.leave(ctx, one)
		one.deliver(ctx, out)
	}()
	return out
}

func group(ctx context.Context) string {
	md, _ := metadata.FromOutgoingContext(ctx)
	return fmt.Sprint(map[string][]string(md))
}

func (w *watcher) leave(ctx context.Context, one *watch) {
	s := w.conn.store
	s.mu.Lock()
	delete(s.watches, one)
	s.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	g := group(ctx)
	if w.groups[g] = slices.DeleteFunc(w.groups[g], func(other *watch) bool { return other == one }); len(w.groups[g]) == 0 {
		delete(w.groups, g)
	}
}

// deliver passes on what comes until the watch ends.
func (one *watch) deliver(ctx context.Context, out chan<- clientv3.WatchResponse) {
	s := one.conn.store
	for {
		r, err := one.answers.next(ctx)
		if err != nil {
			return
		}
		if d := one.conn.fault.Delay; d != nil && pause(ctx, d()) != nil {
			return
		}
		s.mu.Lock()
		again := len(r.Events) > 0 && r.Header.Revision <= one.seen // from before a break
		one.seen = max(one.seen, r.Header.Revision)
		if r.CompactRevision > 0 || len(r.Events) == 0 {
			again = false
		}
		s.mu.Unlock()
		if again {
			continue
		}
		select {
		case out <- r:
		case <-ctx.Done():
			return
		}
		if r.Canceled {
			return
		}
	}
}

func (one *watch) wants(key []byte) bool {
	if len(one.end) == 0 {
		return bytes.Equal(key, one.key)
	}
	open := len(one.end) == 1 && one.end[0] == 0
	return bytes.Compare(key, one.key) >= 0 && (open || bytes.Compare(key, one.end) < 0)
}

// see queues a commit, if there is anything in it for the watch.
func (one *watch) see(c Commit) {
	if c.Revision < one.from {
		return
	}
	var events []*clientv3.Event
	for _, e := range c.Events {
		if one.wants(e.Kv.Key) {
			events = append(events, (*clientv3.Event)(&mvccpb.Event{Type: e.Type, Kv: e.Kv}))
		}
	}
	if len(events) > 0 {
		header := one.conn.store.header()
		header.Revision = c.Revision
		one.answers.add(clientv3.WatchResponse{Header: header, Events: events})
	}
}

// resume connects the watches that can be, where they left off; the store's
// lock is held.
func (s *Store) resume() {
	for one, connected := range s.watches {
		if connected || s.down || one.conn.cut {
			continue
		}
		s.watches[one] = true
		if one.seen < s.compacted {
			one.answers.add(clientv3.WatchResponse{Header: s.header(), Canceled: true, CompactRevision: s.compacted})
			continue
		}
		for _, c := range s.log {
			if c.Revision > one.seen {
				one.see(c)
			}
		}
	}
}

// hangUp breaks the watches of a connection, or of all; the store's lock is
// held.
func (s *Store) hangUp(c *Conn) {
	for one := range s.watches {
		if c == nil || one.conn == c {
			s.watches[one] = false
			one.answers.drop()
		}
	}
}

// RequestProgress implements [clientv3.Watcher].
func (w *watcher) RequestProgress(ctx context.Context) error {
	w.mu.Lock()
	watches := slices.Clone(w.groups[group(ctx)])
	w.mu.Unlock()
	_, err := call(ctx, w.conn, false, func() (struct{}, error) {
		s := w.conn.store
		for _, one := range watches {
			if s.revision < one.from {
				return struct{}{}, nil // etcd reports none to a stream with such a watch
			}
		}
		for _, one := range watches {
			if s.watches[one] {
				one.answers.add(clientv3.WatchResponse{Header: s.header()})
			}
		}
		return struct{}{}, nil
	})
	return err
}

// Close implements [clientv3.Watcher].
func (w *watcher) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, g := range w.groups {
		for _, one := range g {
			one.answers.end(errors.New("the client is closed"))
		}
	}
	return nil
}
