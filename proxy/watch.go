package proxy

import (
	"context"
	"log/slog"
	"maps"
	"os"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// keepEvery is how often routes are written to disk, at most, while they
// change: instances all over the cluster fall asleep and wake.
const keepEvery = time.Second

// Follow keeps the table as etcd's routes and instance keys say, until ctx
// ends. What it last knew is kept in file, and is in force from the start and
// whenever etcd is gone.
func (t *Table) Follow(ctx context.Context, cli *clientv3.Client, file string, log *slog.Logger) {
	k, err := readKept(file)
	if err != nil {
		log.Warn("starting without the routes of last time", "error", err)
	}
	if len(k) > 0 {
		t.update(k, slices.Collect(maps.Keys(k)))
	}
	keep := func() {
		if err := k.keep(file); err != nil {
			log.Warn("the next start will not know these routes", "error", err)
		}
	}
	batches := etcd.Watch(ctx, cli, cluster.RoutesPrefix, cluster.InstancesPrefix)
	kept := time.Time{}
	var due <-chan time.Time
	for {
		select {
		case batch, ok := <-batches:
			if !ok {
				if due != nil {
					keep()
				}
				return
			}
			t.update(k, slices.Collect(maps.Keys(k.apply(batch, log))))
			if due == nil {
				due = time.After(time.Until(kept.Add(keepEvery)))
			}
		case <-due:
			keep()
			kept, due = time.Now(), nil
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
