package audit

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

const (
	// Kept is how many records etcd keeps, give or take a page.
	Kept = 10_000
	// pageSize is what fits a page, in bytes; the records of one transaction of
	// etcd, of which there are at most 128, are never parted.
	pageSize = 256 << 10
	// retryAfter is the pause after what did not work.
	retryAfter = time.Second
)

// What is done that is no change of a key.
const (
	began  = "began the log"
	missed = "missed changes"
)

// Keep records what changes until ctx ends. Two that do so at a time are in
// each other's way, and harm nothing.
func Keep(ctx context.Context, cli *clientv3.Client, log *slog.Logger) {
	c := &clerk{cli: cli, log: log}
	for ctx.Err() == nil {
		if err := c.keep(ctx); err != nil && ctx.Err() == nil {
			log.Warn("cannot keep the audit log, trying again", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryAfter):
		}
	}
}

// clerk writes the log.
type clerk struct {
	cli  *clientv3.Client
	log  *slog.Logger
	head Head
	rev  int64 // mod revision of the head's key; 0: there is none
}

// prefixes are all that it follows.
func prefixes() []etcd.Prefix {
	list := []etcd.Prefix{{Name: cluster.ClaimsPrefix}}
	for _, name := range slices.Sorted(maps.Keys(Followed)) {
		list = append(list, etcd.Prefix{Name: name, Before: true})
	}
	return list
}

func (c *clerk) keep(ctx context.Context) error {
	if err := c.open(ctx); err != nil {
		return err
	}
	err := etcd.Resume(ctx, c.cli, c.head.Revision, func(b etcd.Batch) error { return c.take(ctx, Records(b.Events), b.Revision) }, prefixes()...)
	if errors.Is(err, etcd.ErrCompacted) {
		return c.skip(ctx, err)
	}
	return err
}

// open reads where the log ends, or begins one.
func (c *clerk) open(ctx context.Context) error {
	r, err := c.cli.Get(ctx, cluster.AuditHeadKey)
	if err != nil {
		return fmt.Errorf("cannot read the end of the log: %w", err)
	}
	if len(r.Kvs) == 0 {
		c.head, c.rev = first, 0
		return c.write(ctx, []Record{{Revision: r.Header.Revision, Did: began, Note: "what there was before is not recorded"}}, 0)
	}
	c.rev = r.Kvs[0].ModRevision
	if err := json.Unmarshal(r.Kvs[0].Value, &c.head); err != nil || len(c.head.Hash) != 64 {
		return fmt.Errorf("cannot read the end of the log: %s is not what we wrote", cluster.AuditHeadKey)
	}
	return nil
}

// take records what there is up to a revision, in pages. Without records it
// notes how far it is, so that what etcd drops in time is known not to be missed.
func (c *clerk) take(ctx context.Context, records []Record, upTo int64) error {
	for {
		n, size := 0, 0
		for n < len(records) && (size < pageSize || records[n].Revision == records[n-1].Revision) {
			size += len(records[n].Key) + len(records[n].Note) + 600
			n++
		}
		if n == len(records) {
			return c.write(ctx, records, upTo)
		}
		if err := c.write(ctx, records[:n], 0); err != nil {
			return err
		}
		records = records[n:]
	}
}

// errOther means that another clerk was there first.
var errOther = errors.New("another scheduler has written the audit log meanwhile")

// write adds one page to the log, up to a revision, if its end is where it was.
func (c *clerk) write(ctx context.Context, records []Record, upTo int64) error {
	var page bytes.Buffer
	head, now := c.head, time.Now()
	for _, r := range records {
		line, next, err := head.add(r, now)
		if err != nil {
			return err
		}
		page.Write(line)
		head = next
	}
	head.Revision = max(head.Revision, upTo)
	end, err := json.Marshal(head)
	if err != nil {
		return err
	}
	ops := []clientv3.Op{clientv3.OpPut(cluster.AuditHeadKey, string(end))}
	if len(records) > 0 {
		ops = append(ops, clientv3.OpPut(cluster.AuditPageKey(c.head.N+1), page.String()))
	}
	if old := c.head.N - Kept; old > 0 {
		ops = append(ops, clientv3.OpDelete(cluster.AuditPages, clientv3.WithRange(cluster.AuditPageKey(old))))
	}
	r, err := c.cli.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(cluster.AuditHeadKey), "=", c.rev)).Then(ops...).Commit()
	switch {
	case err != nil:
		return fmt.Errorf("cannot write record %d: %w", c.head.N+1, err)
	case !r.Succeeded:
		return errOther
	}
	c.head, c.rev = head, r.Header.Revision
	if len(records) > 0 {
		c.log.Info("audit log goes on", "records", len(records), "head", head.String())
	}
	return nil
}

// skip records which keys were changed while nobody looked, as far as that can
// be seen, and that there may have been more.
func (c *clerk) skip(ctx context.Context, cause error) error {
	list := prefixes()[1:]
	names := make([]string, len(list))
	for i, p := range list {
		names[i] = p.Name
	}
	now, err := etcd.List(ctx, c.cli, names...)
	if err != nil {
		return fmt.Errorf("cannot see what was missed: %w", err)
	}
	slices.SortFunc(now.Events, func(a, b etcd.Event) int { return cmp.Compare(a.Revision, b.Revision) })
	var records []Record
	for _, e := range now.Events {
		if what, ok := describe(e.Key); ok && e.Revision > c.head.Revision {
			records = append(records, Record{Revision: e.Revision, Did: "was found changed", What: clean(what), Key: clean(e.Key), Value: digest(e.Value)})
		}
	}
	records = append(records, Record{Revision: now.Revision, Did: missed, Note: clean(fmt.Sprintf("between revisions %d and %d: %s", c.head.Revision, now.Revision, cause))})
	return c.take(ctx, records, now.Revision)
}
