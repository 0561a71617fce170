package etcdmem

import (
	"slices"
	"sort"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// Store is the keys, their history and the leases. Its zero value is not
// usable: make it with New.
type Store struct {
	mu        sync.Mutex
	cluster   uint64
	revision  int64
	compacted int64
	keys      map[string][]*mvccpb.KeyValue // versions, oldest first; Version 0 is a deletion
	sorted    []string                      // the names of keys
	log       []Commit
	leases    map[int64]*lease
	lastLease int64
	watches   map[*watch]bool // true: connected
	observe   func(*Snapshot, Commit)
	down      bool
}

// Commit is one transaction's changes, all at one revision.
type Commit struct {
	Revision int64
	Events   []*mvccpb.Event
}

// New makes an empty store. As with etcd the first revision is 1.
func New() *Store {
	return &Store{
		cluster: 1, revision: 1, keys: map[string][]*mvccpb.KeyValue{},
		leases: map[int64]*lease{}, watches: map[*watch]bool{},
	}
}

// Observe has f called with every commit before anybody else sees it. It must
// not call the store, but may look at the snapshot until it returns.
func (s *Store) Observe(f func(*Snapshot, Commit)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.observe = f
}

// Snapshot reads a store that stands still.
type Snapshot struct{ s *Store }

// Get returns a key's value; nil: there is none.
func (s *Snapshot) Get(key string) []byte {
	if kv := s.s.at(key, s.s.revision); kv != nil {
		return kv.Value
	}
	return nil
}

// Each calls f with all keys below a prefix, in order.
func (s *Snapshot) Each(prefix string, f func(key string, value []byte)) {
	for _, kv := range s.s.within([]byte(prefix), prefixEnd(prefix), s.s.revision) {
		f(string(kv.Key), kv.Value)
	}
}

// Look calls f with the store standing still.
func (s *Store) Look(f func(*Snapshot)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&Snapshot{s})
}

func prefixEnd(prefix string) []byte {
	end := []byte(prefix)
	end[len(end)-1]++
	return end
}

func (s *Store) header() *pb.ResponseHeader {
	return &pb.ResponseHeader{ClusterId: s.cluster, MemberId: 1, Revision: s.revision, RaftTerm: 1}
}

// at is a key as of a revision; nil: it is not there.
func (s *Store) at(key string, revision int64) *mvccpb.KeyValue {
	versions := s.keys[key]
	i := sort.Search(len(versions), func(i int) bool { return versions[i].ModRevision > revision })
	if i == 0 || versions[i-1].Version == 0 {
		return nil
	}
	return versions[i-1]
}

// within returns the keys of a range as of a revision, in order (etcd's
// Range: no end is one key, "\x00" all that follow).
func (s *Store) within(key, end []byte, revision int64) (kvs []*mvccpb.KeyValue) {
	if len(end) == 0 {
		if kv := s.at(string(key), revision); kv != nil {
			kvs = append(kvs, kv)
		}
		return kvs
	}
	open := len(end) == 1 && end[0] == 0
	for _, name := range s.sorted[sort.SearchStrings(s.sorted, string(key)):] {
		if !open && name >= string(end) {
			break
		}
		if kv := s.at(name, revision); kv != nil {
			kvs = append(kvs, kv)
		}
	}
	return kvs
}

func (s *Store) write(kv *mvccpb.KeyValue) {
	name := string(kv.Key)
	if s.keys[name] == nil {
		i := sort.SearchStrings(s.sorted, name)
		s.sorted = slices.Insert(s.sorted, i, name)
	}
	s.keys[name] = append(s.keys[name], kv)
}

// commit makes the changes of a transaction visible, if there are any.
func (s *Store) commit(events []*mvccpb.Event) {
	if len(events) == 0 {
		return
	}
	s.revision++
	c := Commit{s.revision, events}
	s.log = append(s.log, c)
	if s.observe != nil {
		s.observe(&Snapshot{s}, c)
	}
	for w, connected := range s.watches {
		if connected {
			w.see(c)
		}
	}
}

// Compact forgets what was before a revision, as etcd's compaction does.
func (s *Store) Compact(revision int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.compact(revision)
}

func (s *Store) compact(revision int64) error {
	switch {
	case revision <= s.compacted:
		return rpctypes.ErrGRPCCompacted
	case revision > s.revision:
		return rpctypes.ErrGRPCFutureRev
	}
	s.compacted = revision
	s.log = slices.DeleteFunc(s.log, func(c Commit) bool { return c.Revision <= revision })
	for name, versions := range s.keys {
		i := sort.Search(len(versions), func(i int) bool { return versions[i].ModRevision > revision })
		if i > 0 && versions[i-1].Version > 0 {
			i-- // what was there at the revision stays
		}
		if s.keys[name] = versions[i:]; i == len(versions) {
			delete(s.keys, name)
		}
	}
	s.sorted = slices.DeleteFunc(s.sorted, func(name string) bool { return s.keys[name] == nil })
	return nil
}

// Revision is that of the last commit.
func (s *Store) Revision() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.revision
}
