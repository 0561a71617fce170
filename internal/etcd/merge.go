package etcd

import (
	"cmp"
	"slices"
	"time"
)

// merge puts the events of several watchers back into the order of their
// revisions: an event may leave once every watcher is known to be past it.
// etcd orders events within a watcher only, and answers a progress request
// when all watchers of the stream have been sent all there is.
type merge struct {
	seen      []int64 // by watcher: events up to here have arrived
	pending   []Event
	waiting   time.Time // since when the first of pending waits
	delivered int64
}

func newMerge(watchers int, revision int64) *merge {
	return &merge{seen: slices.Repeat([]int64{revision}, watchers), delivered: revision}
}

// add takes a response and returns the events that may leave, in order.
func (m *merge) add(r tagged) Batch {
	if len(m.pending) == 0 {
		m.waiting = time.Now()
	}
	for _, e := range r.Events {
		var before []byte
		if e.PrevKv != nil {
			before = e.PrevKv.Value
		}
		m.pending = append(m.pending, Event{
			Before:   before,
			Key:      string(e.Kv.Key),
			Value:    e.Kv.Value,
			Revision: e.Kv.ModRevision,
			Created:  e.Kv.CreateRevision,
			Deleted:  e.Type == deleteEvent,
		})
		m.seen[r.prefix] = max(m.seen[r.prefix], e.Kv.ModRevision)
	}
	if r.IsProgressNotify() {
		m.seen[r.prefix] = max(m.seen[r.prefix], r.Header.Revision)
	}
	return m.release(slices.Min(m.seen))
}

// release takes the events up to revision out of the pending ones.
func (m *merge) release(revision int64) Batch {
	if !slices.IsSortedFunc(m.pending, byRevision) {
		slices.SortStableFunc(m.pending, byRevision)
	}
	n, _ := slices.BinarySearchFunc(m.pending, revision+1, func(e Event, r int64) int { return cmp.Compare(e.Revision, r) })
	b := Batch{Revision: revision, Events: slices.Clone(m.pending[:n])}
	if m.pending = slices.Delete(m.pending, 0, n); n > 0 {
		m.waiting = time.Now()
	}
	m.delivered = max(m.delivered, revision)
	return b
}

func byRevision(a, b Event) int { return cmp.Compare(a.Revision, b.Revision) }

// patience is how long to wait for a sign before asking for one.
func (m *merge) patience() time.Duration {
	if len(m.pending) > 0 {
		return probeAgain
	}
	return probeEvery
}

// stuck says that events have waited too long for a sign.
func (m *merge) stuck() bool {
	return len(m.pending) > 0 && time.Since(m.waiting) > stuckAfter
}
