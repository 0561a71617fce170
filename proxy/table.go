package proxy

import (
	"context"
	"sort"
	"sync"
	"time"

	"bulkhead/cluster"
)

// Table knows the instances of every tenant on this host, and which are
// ready. It is safe for use by several goroutines.
type Table struct {
	host string

	mu        sync.Mutex
	tenants   map[string]*tenant
	elsewhere map[string]bool // tenants that other hosts run
	changed   chan struct{}   // closed and made anew when instances change
}

type tenant struct {
	ready    []*target
	failed   []*target // not as they should be, but their runners may answer
	starting bool      // an instance is on its way
}

// NewTable makes an empty table for the proxy of a host.
func NewTable(host string) *Table {
	return &Table{host: host, tenants: map[string]*tenant{}, changed: make(chan struct{})}
}

// Set makes the table what instances say. Targets that stay keep their
// connections; those that go finish the requests they have.
func (t *Table) Set(instances []cluster.Instance) {
	t.mu.Lock()
	defer t.mu.Unlock()
	old := map[string]*target{}
	for _, tn := range t.tenants {
		for _, tg := range append(tn.ready, tn.failed...) {
			old[tg.endpoint] = tg
		}
	}
	t.tenants, t.elsewhere = map[string]*tenant{}, map[string]bool{}
	sort.Slice(instances, func(i, j int) bool { return instances[i].Instance < instances[j].Instance })
	for _, in := range instances {
		if in.Host != t.host {
			t.elsewhere[in.Tenant] = true
			continue
		}
		tn := t.tenants[in.Tenant]
		if tn == nil {
			tn = &tenant{}
			t.tenants[in.Tenant] = tn
		}
		switch {
		case in.Phase.Serves(), in.Phase == cluster.Failed && in.Endpoint != "":
			tg := old[in.Endpoint]
			delete(old, in.Endpoint)
			if tg == nil {
				tg = newTarget(in.Endpoint, in.Instance)
			}
			if in.Phase == cluster.Failed {
				tn.failed = append(tn.failed, tg)
			} else {
				tn.ready = append(tn.ready, tg)
			}
		case in.Phase == cluster.Starting:
			tn.starting = true
		}
	}
	for _, tg := range old {
		tg.retire()
	}
	close(t.changed)
	t.changed = make(chan struct{})
}

// pick returns the ready instance with the fewest requests in flight, and
// takes a place in it. While none is ready but one is on its way it waits, at
// most hold.
func (t *Table) pick(ctx context.Context, name string, hold time.Duration, not *target) (*target, *refusal) {
	deadline := time.Time{}
	for {
		t.mu.Lock()
		tn := t.tenants[name]
		var best *target
		if tn != nil {
			if best = leastBusy(tn.ready, not); best == nil && !tn.starting {
				best = leastBusy(tn.failed, not)
			}
		}
		changed := t.changed
		if best != nil {
			best.enter()
			t.mu.Unlock()
			return best, nil
		}
		starting := tn != nil && tn.starting
		elsewhere := t.elsewhere[name]
		t.mu.Unlock()
		if tn == nil && elsewhere {
			return nil, refuse(503, "on_other_host", "tenant %q runs on other hosts; routing between hosts is not there yet", name)
		}
		if tn == nil {
			return nil, refuse(404, "tenant_unknown", "unable to resolve tenant %q: no host runs it", name)
		}
		if deadline.IsZero() {
			deadline = time.Now().Add(hold)
		}
		if !starting || !await(ctx, changed, deadline) {
			r := refuse(503, "no_instance", "no instance of tenant %q is ready", name)
			r.retryAfter = time.Second
			return nil, r
		}
	}
}

func await(ctx context.Context, changed <-chan struct{}, deadline time.Time) bool {
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case <-changed:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// leastBusy prefers any other target over not, which has just failed.
func leastBusy(targets []*target, not *target) *target {
	var best *target
	for _, tg := range targets {
		if best == nil || best == not || tg != not && tg.busy.Load() < best.busy.Load() {
			best = tg
		}
	}
	return best
}

// close ends every connection.
func (t *Table) close() {
	t.Set(nil)
}
