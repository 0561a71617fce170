package sim

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"bulkhead/cluster"
	"bulkhead/internal/audit"
	"bulkhead/internal/etcd/etcdmem"
)

// audited notes a change that the audit log has to tell of.
func (c *checker) audited(e *mvccpb.Event, revision int64) {
	for prefix := range audit.Followed {
		if strings.HasPrefix(string(e.Kv.Key), prefix) {
			c.changes = append(c.changes, fmt.Sprintf("%d %s", revision, e.Kv.Key))
		}
	}
}

// unaudited says what is wrong with the audit log: it is one unbroken chain, and
// tells of every change once; unless etcd had dropped some before any
// scheduler saw them, which it says then.
func (w *world) unaudited(s *etcdmem.Snapshot) (left []string) {
	var lines bytes.Buffer
	var head audit.Head
	s.Each(cluster.AuditPages, func(_ string, page []byte) { lines.Write(page) })
	if data := s.Get(cluster.AuditHeadKey); json.Unmarshal(data, &head) != nil {
		return []string{fmt.Sprintf("the audit log's end is %q", data)}
	}
	var began int64
	var told []string
	missed := false
	l, err := audit.Verify(&lines, func(r audit.Record) error {
		switch {
		case r.N == 1:
			began = r.Revision
		case r.Key == "":
			missed = true
		default:
			told = append(told, fmt.Sprintf("%d %s", r.Revision, r.Key))
		}
		return nil
	})
	if err != nil || l.Head.Hash != head.Hash {
		return []string{fmt.Sprintf("the audit log ends with %s, its end is said to be %s: %v", l.Head, head, err)}
	}
	if missed {
		return nil
	}
	var want []string
	for _, change := range w.check.changes {
		var revision int64
		if fmt.Sscan(change, &revision); revision > began {
			want = append(want, change)
		}
	}
	// Those of one transaction have no order, and a chain has that of revisions.
	slices.Sort(told)
	slices.Sort(want)
	for i := range max(len(told), len(want)) {
		if i >= len(told) || i >= len(want) || told[i] != want[i] {
			return []string{fmt.Sprintf("the audit log tells of %d changes, and there were %d", len(told), len(want))}
		}
	}
	return nil
}
