package orders

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/cluster"
)

const (
	tellPatience = 5 * time.Second // for one write
	tellAgain    = time.Second     // after one that failed
)

// teller writes the newest report to etcd, as often as that takes.
type teller struct {
	etcd *clientv3.Client
	key  string
	log  *slog.Logger
	news chan struct{}

	mu     sync.Mutex
	newest []byte
}

func newTeller(cli *clientv3.Client, key string, log *slog.Logger) *teller {
	return &teller{etcd: cli, key: key, log: log, news: make(chan struct{}, 1)}
}

// say has a report written, in the place of one that still waits.
func (t *teller) say(r cluster.Report) {
	value, err := json.Marshal(r)
	if err != nil { // texts and times do
		t.log.Error("cannot encode a report", "error", err)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.newest = value
	select {
	case t.news <- struct{}{}:
	default:
	}
}

func (t *teller) run(ctx context.Context) {
	for said := false; ; {
		select {
		case <-t.news:
		case <-ctx.Done():
			return
		}
		err := t.write(ctx)
		if err == nil {
			said = false
			continue
		}
		if !said && ctx.Err() == nil {
			t.log.Warn("cannot tell what became of an order, trying on", "error", err)
			said = true
		}
		select {
		case t.news <- struct{}{}:
		default:
		}
		pause(ctx, tellAgain)
	}
}

// write writes the newest report.
func (t *teller) write(ctx context.Context) error {
	t.mu.Lock()
	value := t.newest
	t.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, tellPatience)
	defer cancel()
	_, err := t.etcd.Put(ctx, t.key, string(value))
	return err
}
