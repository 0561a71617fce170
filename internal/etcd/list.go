package etcd

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	deleteEvent = clientv3.EventTypeDelete
	// page is the most keys one answer of a list may carry: values may be a
	// MiB each.
	page = 500
)

// List returns a snapshot of all keys under prefixes, all as of one revision.
func List(ctx context.Context, cli *clientv3.Client, prefixes ...string) (Batch, error) {
	b := Batch{Snapshot: true}
	for _, prefix := range prefixes {
		if err := listPrefix(ctx, cli, prefix, &b); err != nil {
			return Batch{}, fmt.Errorf("cannot list %s: %w", prefix, err)
		}
	}
	return b, nil
}

func listPrefix(ctx context.Context, cli *clientv3.Client, prefix string, b *Batch) error {
	from, end := prefix, clientv3.GetPrefixRangeEnd(prefix)
	for {
		// The first answer sets the revision; all others read as of it.
		r, err := cli.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(page), clientv3.WithRev(b.Revision))
		if err != nil {
			return err
		}
		if b.Revision == 0 {
			b.Revision, b.cluster = r.Header.Revision, r.Header.ClusterId
		}
		for _, kv := range r.Kvs {
			b.Events = append(b.Events, Event{Key: string(kv.Key), Value: kv.Value, Revision: kv.ModRevision, Created: kv.CreateRevision})
		}
		if !r.More {
			return nil
		}
		from = string(r.Kvs[len(r.Kvs)-1].Key) + "\x00"
	}
}
