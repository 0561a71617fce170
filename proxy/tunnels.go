package proxy

import (
	"context"
	"sync"
	"time"
)

// tunnels are the upgraded connections, which the HTTP server knows nothing of
// any more.
type tunnels struct {
	mu  sync.Mutex
	all map[*tunnel]struct{}
	end chan struct{} // closed when the last has gone; nil before drain
}

func (ts *tunnels) add(t *tunnel) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.all == nil {
		ts.all = map[*tunnel]struct{}{}
	}
	ts.all[t] = struct{}{}
}

func (ts *tunnels) remove(t *tunnel) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if delete(ts.all, t); ts.end != nil && len(ts.all) == 0 {
		close(ts.end)
		ts.end = nil
	}
}

// drain lets the tunnels go on for tunnelDrain, or until ctx ends, and waits
// until the last has gone. No new one may come while it waits.
func (ts *tunnels) drain(ctx context.Context) {
	ts.mu.Lock()
	if len(ts.all) == 0 {
		ts.mu.Unlock()
		return
	}
	end := make(chan struct{})
	ts.end = end
	ts.mu.Unlock()
	timer := time.NewTimer(tunnelDrain)
	defer timer.Stop()
	select {
	case <-end:
		return
	case <-timer.C:
	case <-ctx.Done():
	}
	ts.mu.Lock()
	for t := range ts.all {
		t.leave()
	}
	ts.mu.Unlock()
	<-end
}
