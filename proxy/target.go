package proxy

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"bulkhead/internal/frames"
)

// dialTimeout bounds connecting to a runner's socket. A dormant runner's
// socket accepts at once: systemd holds it.
const dialTimeout = 5 * time.Second

// target is one instance: the connection to its runner, made when it is first
// needed and again when it has ended.
type target struct {
	endpoint string
	instance string
	busy     atomic.Int64 // requests in flight

	mu      sync.Mutex
	client  *frames.Client
	retired bool
}

func newTarget(endpoint, instance string) *target {
	return &target{endpoint: endpoint, instance: instance}
}

// enter and leave count a request.
func (t *target) enter() { t.busy.Add(1) }

func (t *target) leave() {
	if t.busy.Add(-1) == 0 {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.closeIfDone()
	}
}

// open starts a request. The error is [frames.ErrRefused] (wrapped) when the
// runner has not seen it.
func (t *target) open(ctx context.Context, r frames.Request, end bool) (*frames.Stream, error) {
	client, err := t.connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", frames.ErrRefused, err)
	}
	return client.Open(r, end)
}

func (t *target) connect(ctx context.Context) (*frames.Client, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.retired {
		return nil, fmt.Errorf("instance %s is gone", t.instance)
	}
	if t.client != nil && t.client.Usable() {
		return t.client, nil
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", t.endpoint)
	if err != nil {
		return nil, fmt.Errorf("cannot reach the runner of %s: %w", t.instance, err)
	}
	// A client that refuses new streams may still be answering old ones: it
	// closes when the runner does.
	t.client = frames.NewClient(conn, "proxy")
	return t.client, nil
}

// retire closes the connection once its requests are answered.
func (t *target) retire() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.retired = true
	if t.busy.Load() == 0 {
		t.closeIfDone()
	}
}

func (t *target) closeIfDone() {
	if t.retired && t.client != nil {
		go t.client.Close()
		t.client = nil
	}
}
