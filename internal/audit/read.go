package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"

	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/cluster"
)

// pagesAtOnce is how many pages one answer of etcd may hold.
const pagesAtOnce = 16

// Copy writes the lines of all records that etcd has after record n, oldest
// first, and returns the log's head, as of one revision. Without a log it writes
// nothing and the head is zero.
func Copy(ctx context.Context, kv clientv3.KV, n int64, w io.Writer) (Head, error) {
	r, err := kv.Get(ctx, cluster.AuditHeadKey)
	if err != nil {
		return Head{}, fmt.Errorf("cannot read the audit log: %w", err)
	}
	if len(r.Kvs) == 0 {
		return Head{}, nil
	}
	var head Head
	if err := json.Unmarshal(r.Kvs[0].Value, &head); err != nil {
		return Head{}, fmt.Errorf("cannot read the audit log: %s is not as a scheduler writes it: %w", cluster.AuditHeadKey, err)
	}
	revision, from := r.Header.Revision, cluster.AuditPages
	// The page that holds record n+1 is the last that begins at it or before.
	last, err := kv.Get(ctx, cluster.AuditPages, clientv3.WithRange(cluster.AuditPageKey(n+1)+"\x00"), clientv3.WithRev(revision),
		clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend), clientv3.WithLimit(1), clientv3.WithKeysOnly())
	if err != nil {
		return head, fmt.Errorf("cannot read the audit log: %w", err)
	}
	if len(last.Kvs) > 0 {
		from = string(last.Kvs[0].Key)
	}
	for more := true; more; {
		r, err := kv.Get(ctx, from, clientv3.WithRange(clientv3.GetPrefixRangeEnd(cluster.AuditPages)), clientv3.WithRev(revision), clientv3.WithLimit(pagesAtOnce))
		if err != nil {
			return head, fmt.Errorf("cannot read the audit log: %w", err)
		}
		for _, page := range r.Kvs {
			if err := copyAfter(w, page.Value, n); err != nil {
				return head, err
			}
			from = string(page.Key) + "\x00"
		}
		more = r.More
	}
	return head, nil
}

// copyAfter writes the lines of a page from record n+1 on.
func copyAfter(w io.Writer, page []byte, n int64) error {
	for line := range bytes.Lines(page) {
		var r struct{ N int64 }
		if json.Unmarshal(line, &r) == nil && r.N <= n {
			continue
		}
		if _, err := w.Write(line); err != nil {
			return err
		}
	}
	return nil
}
