package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Presence keeps keys in etcd for as long as their writer lives: they hang on
// a lease that it keeps alive. Setting a key never waits for etcd: while etcd
// is away the newest value waits, and a lost lease (etcd away for longer than
// the TTL, or restored) is replaced and all keys are written again.
//
// One of the keys is the anchor: it is written first, and all others only while
// it hangs on the lease at hand. A write that is still on its way when its lease
// has been given up, ours or a predecessor's, does nothing.
type Presence struct {
	anchor string
	cli    *clientv3.Client
	ttl    time.Duration
	cancel context.CancelFunc
	done   chan struct{}
	dirty  chan struct{} // there is something to write

	mu      sync.Mutex
	want    map[string][]byte
	unsaved map[string]bool
	saved   chan struct{} // closed and replaced whenever unsaved becomes empty
	lease   clientv3.LeaseID
}

// grantWithin bounds the wait for a lease, so that an outage is reported.
const grantWithin = 5 * time.Second

// wholeEvery is how often it is made sure that all keys are there.
const wholeEvery = 30 * time.Second

// NewPresence starts keeping keys under a lease of the given TTL (whole
// seconds, at least 1). Nothing is written before the anchor is set. Close or
// Withdraw ends it.
func NewPresence(cli *clientv3.Client, ttl time.Duration, anchor string) *Presence {
	ctx, cancel := context.WithCancel(context.Background())
	p := &Presence{
		anchor: anchor, cli: cli, ttl: max(ttl, time.Second), cancel: cancel,
		done: make(chan struct{}), dirty: make(chan struct{}, 1),
		want: map[string][]byte{}, unsaved: map[string]bool{}, saved: make(chan struct{}),
	}
	go p.run(ctx)
	return p
}

// Set makes key hold value from now on. Equal values are written once.
func (p *Presence) Set(key string, value []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if old, ok := p.want[key]; ok && string(old) == string(value) {
		return
	}
	p.want[key], p.unsaved[key] = value, true
	p.mark()
}

func (p *Presence) mark() {
	select {
	case p.dirty <- struct{}{}:
	default:
	}
}

// Remove deletes the key.
func (p *Presence) Remove(key string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.want[key]; ok {
		delete(p.want, key)
		p.unsaved[key] = true
		p.mark()
	}
}

// Flush waits until everything set before is in etcd, or ctx ends.
func (p *Presence) Flush(ctx context.Context) error {
	for {
		p.mu.Lock()
		left, saved := len(p.unsaved), p.saved
		p.mu.Unlock()
		if left == 0 {
			return nil
		}
		select {
		case <-saved:
		case <-ctx.Done():
			return fmt.Errorf("cannot write %d keys of ours: %w", left, ctx.Err())
		case <-p.done:
			return errors.New("cannot write keys of ours: closed")
		}
	}
}

// Close stops keeping the keys but leaves them until the lease runs out: a
// successor that sets them meanwhile takes them over without a gap.
func (p *Presence) Close() {
	p.cancel()
	<-p.done
}

// Withdraw stops and removes all the keys at once.
func (p *Presence) Withdraw(ctx context.Context) error {
	p.Close()
	if p.lease == clientv3.NoLease {
		return nil
	}
	if _, err := p.cli.Revoke(ctx, p.lease); err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return fmt.Errorf("cannot withdraw presence: %w", err)
	}
	return nil
}

func (p *Presence) run(ctx context.Context) {
	defer close(p.done)
	backoff, warned := backoffMin, false
	for ctx.Err() == nil {
		written, err := p.hold(ctx)
		if ctx.Err() != nil {
			return
		}
		if written {
			backoff, warned = backoffMin, false
		}
		if !warned {
			slog.Warn("presence in etcd lost, trying on", "error", err)
			warned = true
		}
		sleep(ctx, backoff)
		backoff = min(2*backoff, backoffMax)
	}
}

// hold grants a lease and keeps all keys under it until it is lost. It says
// whether everything was written once.
func (p *Presence) hold(ctx context.Context) (written bool, err error) {
	wait, done := context.WithTimeout(ctx, grantWithin)
	grant, err := p.cli.Grant(wait, int64(p.ttl/time.Second))
	done()
	if err != nil {
		return false, fmt.Errorf("cannot get a lease: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	alive, err := p.cli.KeepAlive(ctx, grant.ID)
	if err != nil {
		return false, fmt.Errorf("cannot keep a lease: %w", err)
	}
	dropped, err := p.drop(ctx, grant.ID)
	if err != nil {
		return false, err
	}
	p.renew(grant.ID, dropped)
	whole := time.NewTicker(wholeEvery)
	defer whole.Stop()
	for {
		select {
		case <-ctx.Done():
			return written, ctx.Err()
		case _, ok := <-alive:
			if !ok {
				return written, errors.New("the lease ran out")
			}
		case <-whole.C:
			if err := p.whole(ctx, grant.ID); err != nil {
				return written, err
			}
		case <-p.dirty:
			if err := p.save(ctx, grant.ID); err != nil {
				return written, err
			}
			written = true
		}
	}
}

// drop drops the anchor, once there is one, and returns its value: it hangs on
// the lease from now on, unless someone changes it while we do so.
func (p *Presence) drop(ctx context.Context, lease clientv3.LeaseID) (value []byte, err error) {
	for set := false; !set; {
		p.mu.Lock()
		value, set = p.want[p.anchor]
		p.mu.Unlock()
		if !set {
			select {
			case <-p.dirty:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, p.ttl)
	defer cancel()
	r, err := p.cli.Get(ctx, p.anchor)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", p.anchor, err)
	}
	before := int64(0)
	if len(r.Kvs) > 0 {
		before = r.Kvs[0].ModRevision
	}
	_, err = commit(ctx, p.cli, []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(p.anchor), "=", before)}, lease, [][]Op{{Put(p.anchor, value)}})
	return value, p.disturbed(err)
}

// disturbed says in a presence's words that it was fenced.
func (p *Presence) disturbed(err error) error {
	if errors.Is(err, ErrFenced) {
		return fmt.Errorf("someone else writes %s: are there two of this name?", p.anchor)
	}
	return err
}

// anchored holds while the anchor hangs on a lease.
func (p *Presence) anchored(lease clientv3.LeaseID) []clientv3.Cmp {
	return []clientv3.Cmp{clientv3.Compare(clientv3.LeaseValue(p.anchor), "=", lease)}
}

// whole returns an error when not all keys that were written hang on the lease:
// someone has deleted one, or written one of the same name.
func (p *Presence) whole(ctx context.Context, lease clientv3.LeaseID) error {
	p.mu.Lock()
	want, unsaved := len(p.want), len(p.unsaved)
	p.mu.Unlock()
	if unsaved > 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, p.ttl)
	defer cancel()
	r, err := p.cli.TimeToLive(ctx, lease, clientv3.WithAttachedKeys())
	if err != nil {
		return fmt.Errorf("cannot make sure that our keys are there: %w", err)
	}
	if len(r.Keys) != want {
		return fmt.Errorf("%d of our %d keys are in etcd", len(r.Keys), want)
	}
	return nil
}

// renew marks every key for writing under a new lease, but the anchor that was
// dropped with it.
func (p *Presence) renew(id clientv3.LeaseID, dropped []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lease = id
	for key, value := range p.want {
		if p.unsaved[key] = true; key == p.anchor && string(value) == string(dropped) {
			delete(p.unsaved, key)
		}
	}
	p.mark()
}

// save writes what is unsaved; what fails stays so.
func (p *Presence) save(ctx context.Context, lease clientv3.LeaseID) error {
	p.mu.Lock()
	var groups [][]Op
	for key := range p.unsaved {
		value, ok := p.want[key]
		groups = append(groups, []Op{{Key: key, Value: value, Delete: !ok}})
	}
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, p.ttl)
	defer cancel()
	if _, err := commit(ctx, p.cli, p.anchored(lease), lease, groups); err != nil {
		return p.disturbed(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, group := range groups {
		op := group[0]
		// Set again while it was being written? Then it stays unsaved.
		if now, ok := p.want[op.Key]; ok != op.Delete && string(now) == string(op.Value) {
			delete(p.unsaved, op.Key)
		}
	}
	if len(p.unsaved) == 0 {
		close(p.saved)
		p.saved = make(chan struct{})
	}
	return nil
}
