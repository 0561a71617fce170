package proxy

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"
)

// Table knows where every tenant's instances are, and which of them serve. It
// is safe for use by several goroutines.
type Table struct {
	host string
	log  *slog.Logger
	dial dialer

	mu      sync.Mutex
	tenants map[string]*tenant
	peers   map[peerID]*peer
	loaded  bool          // it has been told something
	changed chan struct{} // closed and made anew when there is more to choose from
}

type tenant struct {
	choices  [ranks][]*target
	starting bool // an instance is on its way
}

// targetID tells a tenant's targets apart: an instance here by its socket,
// those of another host together by that host's proxy.
type targetID struct {
	endpoint string
	peer     peerID
}

// NewTable makes an empty table for the proxy of a host.
func NewTable(host string, log *slog.Logger) *Table {
	return &Table{host: host, log: log, tenants: map[string]*tenant{}, peers: map[peerID]*peer{}, changed: make(chan struct{})}
}

// setDialer says how other hosts' proxies are reached.
func (t *Table) setDialer(d dialer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dial = d
}

// update makes the table what is known of some tenants. Targets that stay keep
// their connections; those that go finish the requests they have.
func (t *Table) update(k known, tenants []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, name := range tenants {
		before := t.tenants[name]
		if !k.placed(name) {
			delete(t.tenants, name)
			before.retire(t, nil)
			continue
		}
		t.tenants[name] = t.build(name, k[name], before)
	}
	t.loaded = true
	t.wake()
}

// build makes a tenant of its facts. t.mu is held.
func (t *Table) build(name string, facts map[string]fact, before *tenant) *tenant {
	old := before.targets()
	tn, now := &tenant{}, map[targetID]*target{}
	var order []*target
	for _, place := range slices.Sorted(maps.Keys(facts)) {
		f := facts[place]
		s := f.rank(t.host, name, place, exists)
		tn.starting = tn.starting || s.starting
		if !s.serves {
			continue
		}
		id := targetID{endpoint: f.Instance.Endpoint}
		if f.Route.Host != t.host {
			id = targetID{peer: peerID{f.Route.Host, f.Route.Address}}
		}
		tg := now[id]
		if tg == nil {
			if tg = old[id]; tg == nil {
				tg = t.newTarget(id, name, f.Instance.Instance)
			}
			tg.rank, tg.weight = s.rank, 0
			now[id], order = tg, append(order, tg)
		}
		if s.rank < tg.rank { // a host is as good as the best it has
			tg.rank, tg.weight = s.rank, 0
		}
		if s.rank == tg.rank {
			tg.weight++
		}
	}
	for _, tg := range order {
		tn.choices[tg.rank] = append(tn.choices[tg.rank], tg)
	}
	before.retire(t, now)
	return tn
}

// targets are all of a tenant's; there are none of one that is nil.
func (tn *tenant) targets() map[targetID]*target {
	all := map[targetID]*target{}
	if tn != nil {
		for _, choices := range tn.choices {
			for _, tg := range choices {
				all[tg.id] = tg
			}
		}
	}
	return all
}

// retire lets those targets go that are not among stay. t.mu is held.
func (tn *tenant) retire(t *Table, stay map[targetID]*target) {
	for id, tg := range tn.targets() {
		if stay[id] == nil {
			tg.retire()
			t.release(tg.peer)
		}
	}
}

// wake tells those that wait to look again. t.mu is held.
func (t *Table) wake() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// recovered tells them that a circuit has closed.
func (t *Table) recovered() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wake()
}

// Has reports whether a tenant is placed anywhere.
func (t *Table) Has(name string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.tenants[name] != nil
}

// Loaded reports whether the table knows anything: from disk, or from etcd.
func (t *Table) Loaded() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.loaded
}

// AwaitLoaded waits until the table knows anything, or ctx ends.
func (t *Table) AwaitLoaded(ctx context.Context) {
	for {
		t.mu.Lock()
		loaded, changed := t.loaded, t.changed
		t.mu.Unlock()
		if loaded {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// pick returns the best target for a request of a tenant, and takes a place in
// it; any but not, which has just failed it, if there is another. While there
// is none, but one may soon be (an instance starts, a circuit is open, nothing
// has been heard of etcd yet), it waits until the deadline.
func (t *Table) pick(ctx context.Context, name string, not *target, deadline time.Time) (*target, *refusal) {
	for {
		t.mu.Lock()
		tn, changed := t.tenants[name], t.changed
		best, wait := tn.choose(not)
		if best != nil {
			best.enter()
			t.mu.Unlock()
			return best, nil
		}
		hope := wait > 0 || tn != nil && tn.starting || !t.loaded
		unknown := tn == nil && t.loaded
		t.mu.Unlock()
		if unknown {
			return nil, refuse(404, "tenant_unknown", "unable to resolve tenant %q: no host runs it", name)
		}
		if !hope || !await(ctx, changed, wait, deadline) {
			r := refuse(503, "no_instance", "no instance of tenant %q is ready", name)
			r.retryAfter = time.Second
			return nil, r
		}
	}
}

// pickHere returns the best target for a request that another host's proxy has
// sent, and takes a place in it; nil if there is none on this host.
func (t *Table) pickHere(name []byte, not *target) *target {
	t.mu.Lock()
	defer t.mu.Unlock()
	tn := t.tenants[string(name)]
	if tn == nil {
		return nil
	}
	for _, choices := range tn.choices {
		best, _ := choose(choices, func(tg *target) bool { return tg.peer == nil && tg != not })
		if best != nil {
			best.enter()
			return best
		}
	}
	return nil
}

// await waits for a change, for the time after which a circuit lets a request
// through (0: there is none), or until the deadline: then it returns false.
func await(ctx context.Context, changed <-chan struct{}, wait time.Duration, deadline time.Time) bool {
	left := time.Until(deadline)
	if left <= 0 {
		return false
	}
	timer := time.NewTimer(min(left, cmp.Or(wait, left)))
	defer timer.Stop()
	select {
	case <-changed:
		return true
	case <-timer.C:
		return wait > 0 && wait < left
	case <-ctx.Done():
		return false
	}
}

// close ends every connection.
func (t *Table) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, tn := range t.tenants {
		tn.retire(t, nil)
	}
	t.tenants = map[string]*tenant{}
	t.wake()
}
