package proxy

import (
	"context"
	"errors"
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

// target is where requests of one tenant go: an instance on this host, by the
// connection to its runner, made when it is first needed and again when it has
// ended; or all of the tenant's instances on another host, by the connection to
// that host's proxy.
type target struct {
	id       targetID
	table    *Table
	tenant   string
	instance string // empty: another host's, its proxy chooses
	peer     *peer  // nil: it is on this host
	busy     atomic.Int64
	circuit  circuit

	rank   rank  // the table's own
	weight int64 // instances behind it; the table's own

	mu      sync.Mutex
	client  *frames.Client
	retired bool
}

// newTarget makes a target. t.mu is held.
func (t *Table) newTarget(id targetID, tenant, instance string) *target {
	tg := &target{id: id, table: t, tenant: tenant, instance: instance}
	if id.endpoint == "" {
		tg.peer, tg.instance = t.acquire(id.peer), ""
	}
	return tg
}

// load is how busy each instance behind it is with our requests, in
// thousandths of one.
func (t *target) load() int64 { return t.busy.Load() * 1000 / max(t.weight, 1) }

// wait is how long it takes no requests; 0: it does.
func (t *target) wait() time.Duration {
	wait := t.circuit.wait(time.Now)
	if t.peer != nil {
		wait = max(wait, t.peer.circuit.wait(time.Now))
	}
	return wait
}

// enter and leave count a request.
func (t *target) enter() {
	t.busy.Add(1)
	t.circuit.enter(time.Now)
	if t.peer != nil {
		t.peer.circuit.enter(time.Now)
	}
}

func (t *target) leave() {
	if t.busy.Add(-1) == 0 && t.peer == nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.closeIfDone()
	}
}

// host is where it is; empty: here.
func (t *target) host() string { return t.id.peer.host }

// open starts a request. The error is [frames.ErrRefused] (wrapped) when the
// other side has not seen it.
func (t *target) open(ctx context.Context, r frames.Request, end bool) (*frames.Stream, error) {
	client, err := t.connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", frames.ErrRefused, err)
	}
	stream, err := client.Open(r, end)
	if err != nil && !errors.Is(err, frames.ErrProtocol) {
		t.failed(err, false) // its connection is full, or has just ended: not at once again
	}
	return stream, err
}

// connect returns the connection to send a request over. One that cannot be
// made is held against who does not answer.
func (t *target) connect(ctx context.Context) (*frames.Client, error) {
	if t.peer != nil {
		return t.peer.connect(ctx)
	}
	client, err := t.connectHere(ctx)
	if err != nil {
		t.failed(err, true)
	}
	return client, err
}

func (t *target) connectHere(ctx context.Context) (*frames.Client, error) {
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
	conn, err := d.DialContext(ctx, "unix", t.id.endpoint)
	if err != nil {
		return nil, fmt.Errorf("cannot reach the runner of %s: %w", t.instance, err)
	}
	// A client that refuses new streams may still be answering old ones: it
	// closes when the runner does.
	t.client = frames.NewClient(conn, "proxy")
	return t.client, nil
}

// failed notes that a request has not been taken, and says when no more are
// sent.
func (t *target) failed(err error, hard bool) {
	rest, opened := t.circuit.failed(time.Now(), hard)
	if opened {
		t.table.log.Warn("circuit open: sending no requests", "tenant", t.tenant, "instance", t.instance, "host", t.host(), "rest", rest, "error", err)
	}
}

// succeeded notes that one has.
func (t *target) succeeded() {
	if t.circuit.succeeded() {
		t.table.log.Info("circuit closed: requests are taken again", "tenant", t.tenant, "instance", t.instance, "host", t.host())
		t.table.recovered()
	}
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
