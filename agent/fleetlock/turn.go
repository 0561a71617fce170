package fleetlock

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// etcdPatience is how long one request to etcd may take.
const etcdPatience = 5 * time.Second

// Turn is a host's turn to be rebooted.
type Turn struct {
	Host string
	Etcd *clientv3.Client
	// Order is the one in force on this host, with an empty ID when there is
	// none, and whether etcd has said so; the channel is closed when that
	// changes.
	Order func() (order cluster.Order, heard bool, changed <-chan struct{})
}

// Take asks for the turn, and returns nil once it is granted: the host has been
// drained then. Asking twice is asking once. When ctx ends the wish stands.
func (t Turn) Take(ctx context.Context, group, id string) error {
	if err := t.ask(ctx, cluster.Ask{Group: group, ID: id, Wanted: true, Time: time.Now().UTC()}); err != nil {
		return err
	}
	return t.await(ctx, func(o cluster.Order) bool { return o.Granted })
}

// Give gives the turn back, and returns nil once nothing of it is left: the
// scheduler has seen that the host is well. Without a turn that is at once.
func (t Turn) Give(ctx context.Context, group, id string) error {
	if err := t.ask(ctx, cluster.Ask{Group: group, ID: id, Time: time.Now().UTC()}); err != nil {
		return err
	}
	return t.await(ctx, func(o cluster.Order) bool { return o.ID == "" })
}

// ask has etcd say what is wanted. Who wants what was wanted already leaves it,
// with the time since when; who gives back what was never asked for, too.
func (t Turn) ask(ctx context.Context, want cluster.Ask) error {
	ctx, cancel := context.WithTimeout(ctx, etcdPatience)
	defer cancel()
	key := cluster.AskKey(t.Host)
	found, err := etcd.Read(ctx, t.Etcd, key)
	if err != nil {
		return fmt.Errorf("cannot tell whether this host has asked already: %w", err)
	}
	var last cluster.Ask
	if e, there := found[key]; there && json.Unmarshal(e.Value, &last) != nil {
		last = cluster.Ask{} // nothing that anybody could go by
	}
	if last.Wanted == want.Wanted && (!want.Wanted || last.Group == want.Group && last.ID == want.ID) {
		return nil
	}
	value, err := json.Marshal(want)
	if err == nil {
		_, err = t.Etcd.Put(ctx, key, string(value))
	}
	if err != nil {
		return fmt.Errorf("cannot write what this host asks for: %w", err)
	}
	return nil
}

// await waits until the order in force is so.
func (t Turn) await(ctx context.Context, so func(cluster.Order) bool) error {
	for {
		order, heard, changed := t.Order()
		if heard && so(order) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
