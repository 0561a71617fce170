package agent

import (
	"context"
	"encoding/json"
	"maps"
	"sync"
	"time"

	"bulkhead/cluster"
)

const (
	// loadEvery is how often this host's load is written at most.
	loadEvery = 2 * time.Second
	// loadStale is how long a runner's word on its load counts. One that has
	// anything to do speaks every two seconds.
	loadStale = 7 * time.Second
)

// loads is what the runners of a host have said of their requests in flight.
type loads struct {
	mu   sync.Mutex
	said map[string]saidLoad // by instance
	news chan struct{}
}

type saidLoad struct {
	inFlight float64
	at       time.Time
}

func newLoads() *loads { return &loads{said: map[string]saidLoad{}, news: make(chan struct{}, 1)} }

// say takes a runner's word.
func (l *loads) say(instance string, inFlight float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if inFlight > 0 {
		l.said[instance] = saidLoad{inFlight, time.Now()}
	} else {
		delete(l.said, instance)
	}
	select {
	case l.news <- struct{}{}:
	default:
	}
}

// now is the load of all that counts.
func (l *loads) now() cluster.Load {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(l.said, func(_ string, s saidLoad) bool { return now.Sub(s.at) > loadStale })
	all := cluster.Load{Instances: make(map[string]float64, len(l.said))}
	for instance, s := range l.said {
		all.Instances[instance] = s.inFlight
	}
	return all
}

// tellLoads keeps this host's load in etcd until ctx ends: a word of a runner
// is passed on at once, and then not again for a while.
func (a *Agent) tellLoads(ctx context.Context) {
	key, pause := cluster.LoadKey(a.cfg.Host.Name), time.NewTimer(loadEvery)
	defer pause.Stop()
	for {
		load := a.loads.now()
		stale := time.NewTimer(loadStale)
		if len(load.Instances) == 0 {
			a.presence.Remove(key)
			stale.Stop() // nothing can become so
		} else if value, err := json.Marshal(load); err == nil { // texts and numbers do
			a.presence.Set(key, value)
		}
		pause.Reset(loadEvery)
		select {
		case <-pause.C:
		case <-ctx.Done():
			return
		}
		select {
		case <-a.loads.news:
		case <-stale.C:
		case <-ctx.Done():
			return
		}
	}
}
