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

// Prefix is what to list or follow. With KeysOnly a snapshot's events come
// without values, for who can't hold them all; later changes bring theirs. With
// Exact it is one key, and none that begins with it. With Before, changes bring
// what was there until then.
type Prefix struct {
	Name     string
	KeysOnly bool
	Exact    bool
	Before   bool
}

// end is where the prefix's keys end, as etcd takes it; empty for one key.
func (p Prefix) end() string {
	if p.Exact {
		return ""
	}
	return clientv3.GetPrefixRangeEnd(p.Name)
}

// whole are prefixes of which values are wanted too.
func whole(names []string) []Prefix {
	prefixes := make([]Prefix, len(names))
	for i, name := range names {
		prefixes[i].Name = name
	}
	return prefixes
}

// List returns a snapshot of all keys under prefixes, all as of one revision.
func List(ctx context.Context, cli *clientv3.Client, prefixes ...string) (Batch, error) {
	return list(ctx, cli, whole(prefixes))
}

func list(ctx context.Context, cli *clientv3.Client, prefixes []Prefix) (Batch, error) {
	b := Batch{Snapshot: true}
	for _, prefix := range prefixes {
		if err := listPrefix(ctx, cli, prefix, &b); err != nil {
			return Batch{}, fmt.Errorf("cannot list %s: %w", prefix.Name, err)
		}
	}
	return b, nil
}

// Read returns those of some keys that are there, all as of one revision. Not
// more than 128 fit a request, and their values have to fit memory.
func Read(ctx context.Context, cli *clientv3.Client, keys ...string) (map[string]Event, error) {
	gets := make([]clientv3.Op, len(keys))
	for i, key := range keys {
		gets[i] = clientv3.OpGet(key)
	}
	r, err := cli.Txn(ctx).Then(gets...).Commit()
	if err != nil {
		return nil, fmt.Errorf("cannot read %d keys: %w", len(keys), err)
	}
	found := map[string]Event{}
	for _, one := range r.Responses {
		for _, kv := range one.GetResponseRange().Kvs {
			found[string(kv.Key)] = Event{Key: string(kv.Key), Value: kv.Value, Revision: kv.ModRevision, Created: kv.CreateRevision}
		}
	}
	return found, nil
}

func listPrefix(ctx context.Context, cli *clientv3.Client, prefix Prefix, b *Batch) error {
	from, end := prefix.Name, prefix.end()
	var some []clientv3.OpOption
	if prefix.KeysOnly {
		some = append(some, clientv3.WithKeysOnly())
	}
	for {
		// The first answer sets the revision; all others read as of it.
		r, err := cli.Get(ctx, from, append(some, clientv3.WithRange(end), clientv3.WithLimit(page), clientv3.WithRev(b.Revision))...)
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
