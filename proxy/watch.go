package proxy

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
	"bulkhead/internal/kept"
)

// Follow keeps the table as etcd's instance keys say, until ctx ends. What it
// last knew is kept in file, and is in force from the start and whenever etcd
// is gone.
//
// An instance of this host whose key has vanished while it was ready is still
// routed to for as long as its socket is there: its agent has died or lost its
// lease, and that stops nobody. An agent that ends an instance on purpose says
// so first.
func (t *Table) Follow(ctx context.Context, cli *clientv3.Client, file string, log *slog.Logger) {
	known, err := readKept(file)
	if err != nil {
		log.Warn("starting without the routes of last time", "error", err)
	}
	t.Set(slices.Collect(maps.Values(known)))
	for batch := range etcd.Watch(ctx, cli, cluster.InstancesPrefix) {
		before := known
		known = next(before, batch, log)
		for key, in := range before {
			if _, still := known[key]; !still && in.Host == t.host && in.Phase.Serves() && exists(in.Endpoint) {
				known[key] = in
			}
		}
		t.Set(slices.Collect(maps.Values(known)))
		if err := keep(file, known); err != nil {
			log.Warn("routes are not kept for the next start", "error", err)
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// next is what is known after a batch. A snapshot is all there is.
func next(before map[string]cluster.Instance, batch etcd.Batch, log *slog.Logger) map[string]cluster.Instance {
	known := map[string]cluster.Instance{}
	if !batch.Snapshot {
		maps.Copy(known, before)
	}
	for _, e := range batch.Events {
		if e.Deleted {
			delete(known, e.Key)
			continue
		}
		var in cluster.Instance
		if err := json.Unmarshal(e.Value, &in); err != nil {
			log.Warn("instance key cannot be read", "key", e.Key, "error", err)
			if old, ok := before[e.Key]; ok {
				known[e.Key] = old // invalid is not absent
			}
			continue
		}
		known[e.Key] = in
	}
	return known
}

func readKept(file string) (map[string]cluster.Instance, error) {
	known := map[string]cluster.Instance{}
	data, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		return known, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &known)
	}
	if err != nil {
		return map[string]cluster.Instance{}, fmt.Errorf("cannot read kept routes: %w", err)
	}
	return known, nil
}

func keep(file string, known map[string]cluster.Instance) error {
	data, err := json.Marshal(known)
	if err == nil {
		err = kept.Write(file, data, 0o600)
	}
	return err
}
