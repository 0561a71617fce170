package etcdmem

import (
	"bytes"
	"context"
	"io"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

var errGone = status.Error(codes.Unavailable, "the connection is gone")

// queue holds what is to be received, in order.
type queue[T any] struct {
	mu    sync.Mutex
	items []T
	more  chan struct{}
	err   error
}

func newQueue[T any]() *queue[T] { return &queue[T]{more: make(chan struct{}, 1)} }

func (q *queue[T]) add(item T) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.items = append(q.items, item)
	q.wake()
}

func (q *queue[T]) end(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err == nil {
		q.err = err
	}
	q.wake()
}

func (q *queue[T]) wake() {
	select {
	case q.more <- struct{}{}:
	default:
	}
}

// next waits for the next item. What came before an end is lost with it, as
// with a connection that breaks.
func (q *queue[T]) next(ctx context.Context) (item T, err error) {
	for {
		q.mu.Lock()
		if q.err != nil {
			defer q.mu.Unlock()
			return item, q.err
		}
		if len(q.items) > 0 {
			defer q.mu.Unlock()
			item, q.items = q.items[0], q.items[1:]
			return item, nil
		}
		q.mu.Unlock()
		select {
		case <-q.more:
		case <-ctx.Done():
			return item, status.FromContextError(ctx.Err()).Err()
		}
	}
}

// stream is a watch stream.
type stream struct {
	grpc.ClientStream
	ctx      context.Context
	conn     *Conn
	answers  *queue[*pb.WatchResponse]
	watchers map[int64]*watcher // guarded by the store's lock, like the rest
	last     int64
}

type watcher struct {
	id       int64
	key, end []byte
	from     int64 // revision
	previous bool
}

func (w *watcher) wants(key []byte) bool {
	if len(w.end) == 0 {
		return bytes.Equal(key, w.key)
	}
	open := len(w.end) == 1 && w.end[0] == 0
	return bytes.Compare(key, w.key) >= 0 && (open || bytes.Compare(key, w.end) < 0)
}

// see queues a commit for the watchers that want it.
func (st *stream) see(c Commit) {
	for _, w := range st.watchers {
		st.tell(w, c)
	}
}

func (st *stream) tell(w *watcher, c Commit) {
	if c.Revision < w.from {
		return
	}
	var events []*mvccpb.Event
	for _, e := range c.Events {
		if !w.wants(e.Kv.Key) {
			continue
		}
		if !w.previous {
			e = &mvccpb.Event{Type: e.Type, Kv: e.Kv}
		}
		events = append(events, e)
	}
	if len(events) > 0 {
		header := st.conn.store.header()
		header.Revision = c.Revision
		st.answers.add(&pb.WatchResponse{Header: header, WatchId: w.id, Events: events})
	}
}

// Send implements the stream's client side.
func (st *stream) Send(r *pb.WatchRequest) error {
	s := st.conn.store
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, open := s.streams[st]; !open {
		return io.EOF // Recv says why
	}
	switch v := r.RequestUnion.(type) {
	case *pb.WatchRequest_CreateRequest:
		st.create(v.CreateRequest)
	case *pb.WatchRequest_CancelRequest:
		id := v.CancelRequest.WatchId
		if st.watchers[id] != nil {
			delete(st.watchers, id)
			st.answers.add(&pb.WatchResponse{Header: s.header(), WatchId: id, Canceled: true})
		}
	case *pb.WatchRequest_ProgressRequest:
		for _, w := range st.watchers {
			if s.revision < w.from {
				return nil // etcd reports none to a stream with such a watcher
			}
		}
		st.answers.add(&pb.WatchResponse{Header: s.header(), WatchId: -1})
	}
	return nil
}

func (st *stream) create(r *pb.WatchCreateRequest) {
	s := st.conn.store
	st.last++
	w := &watcher{id: st.last, key: r.Key, end: r.RangeEnd, from: r.StartRevision, previous: r.PrevKv}
	if w.from == 0 {
		w.from = s.revision + 1
	}
	st.answers.add(&pb.WatchResponse{Header: s.header(), WatchId: w.id, Created: true})
	if w.from <= s.compacted {
		st.answers.add(&pb.WatchResponse{Header: s.header(), WatchId: w.id, Canceled: true, CompactRevision: s.compacted})
		return
	}
	st.watchers[w.id] = w
	for _, c := range s.log {
		st.tell(w, c)
	}
}

// Recv implements the stream's client side.
func (st *stream) Recv() (*pb.WatchResponse, error) { return st.answers.next(st.ctx) }

// Context implements the stream's client side.
func (st *stream) Context() context.Context { return st.ctx }

// CloseSend implements the stream's client side.
func (st *stream) CloseSend() error {
	s := st.conn.store
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, st)
	st.answers.end(io.EOF)
	return nil
}

// hangUp ends streams; the store's lock is held.
func (s *Store) hangUp(which func(*stream) bool) {
	for st := range s.streams {
		if which(st) {
			delete(s.streams, st)
			st.answers.end(errGone)
		}
	}
}
