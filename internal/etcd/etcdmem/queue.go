package etcdmem

import (
	"context"
	"sync"

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

// drop forgets what has not been taken, as a connection does that breaks.
func (q *queue[T]) drop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.items = nil
}

// next waits for the next item, or the end.
func (q *queue[T]) next(ctx context.Context) (item T, err error) {
	for {
		q.mu.Lock()
		if len(q.items) > 0 {
			item, q.items = q.items[0], q.items[1:]
			q.mu.Unlock()
			return item, nil
		}
		if err := q.err; err != nil {
			q.mu.Unlock()
			return item, err
		}
		q.mu.Unlock()
		select {
		case <-q.more:
		case <-ctx.Done():
			return item, status.FromContextError(ctx.Err()).Err()
		}
	}
}
