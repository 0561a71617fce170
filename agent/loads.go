package agent

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"sync"
	"time"

	"bulkhead/cluster"
	"bulkhead/internal/tally"
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
// is passed on at once, and then not again for a while; what the proxy counts is
// looked at as often as that.
func (a *Agent) tellLoads(ctx context.Context) {
	key, pause := cluster.LoadKey(a.cfg.Host.Name), time.NewTimer(loadEvery)
	defer pause.Stop()
	count := failures{file: a.cfg.Failures, log: a.cfg.Log}
	for {
		load := a.loads.now()
		load.Failed = count.now()
		again := time.NewTimer(loadStale)
		if count.file != "" {
			again.Reset(loadEvery)
		}
		if len(load.Instances) == 0 && count.file == "" {
			again.Stop() // nothing can become stale
		}
		if len(load.Instances) == 0 && load.Failed == nil {
			a.presence.Remove(key)
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
		case <-again.C:
		case <-ctx.Done():
			return
		}
	}
}

// failures is the proxy's count of requests that the platform failed. The proxy
// is trusted with no more than that number.
type failures struct {
	file string // empty: it doesn't count
	log  *slog.Logger
	said string // why there is none, as last told
}

// now reads the count; nil when there is none.
func (f *failures) now() *int64 {
	if f.file == "" {
		return nil
	}
	n, err := tally.Read(f.file)
	if err == nil {
		f.said = ""
		return &n
	}
	if text := err.Error(); text != f.said && !errors.Is(err, fs.ErrNotExist) {
		f.said = text
		f.log.Warn("how many requests failed is not known: restart the proxy, or remove the file", "error", err)
	}
	return nil
}
