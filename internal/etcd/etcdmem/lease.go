package etcdmem

import (
	"maps"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// lease keeps keys until it runs out.
type lease struct {
	id    int64
	ttl   time.Duration
	until time.Time
	timer *time.Timer
	keys  map[string]bool
}

func (s *Store) grant(r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	id := r.ID
	if id == 0 {
		s.lastLease++
		id = s.lastLease
	}
	if s.leases[id] != nil {
		return nil, rpctypes.ErrGRPCLeaseExist
	}
	l := &lease{id: id, ttl: time.Duration(r.TTL) * time.Second, keys: map[string]bool{}}
	s.leases[id] = l
	l.timer = time.AfterFunc(l.ttl, func() { s.expire(l) })
	l.until = time.Now().Add(l.ttl)
	return &pb.LeaseGrantResponse{Header: s.header(), ID: id, TTL: r.TTL}, nil
}

// expire ends a lease whose time is over. While nobody is there to see it, no
// lease runs out: whoever leads etcd next gives all their full time.
func (s *Store) expire(l *lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if left := time.Until(l.until); s.leases[l.id] != l || s.down || left > 0 {
		return
	}
	s.revoke(l)
}

func (s *Store) revoke(l *lease) {
	l.timer.Stop()
	w := &writing{s, s.revision + 1, nil}
	for _, key := range slices.Sorted(maps.Keys(l.keys)) {
		w.delete(&pb.DeleteRangeRequest{Key: []byte(key)})
	}
	delete(s.leases, l.id)
	s.commit(w.events)
}

func (s *Store) renew(l *lease) {
	l.until = time.Now().Add(l.ttl)
	l.timer.Reset(l.ttl)
}

// keepAlive renews a lease; TTL 0 in the answer says that there is none.
func (s *Store) keepAlive(id int64) *pb.LeaseKeepAliveResponse {
	a := &pb.LeaseKeepAliveResponse{Header: s.header(), ID: id}
	if l := s.leases[id]; l != nil {
		s.renew(l)
		a.TTL = int64(l.ttl / time.Second)
	}
	return a
}

// Down takes the whole cluster away: every stream ends, every call fails.
func (s *Store) Down() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = true
	s.hangUp(nil)
}

// Up brings it back.
func (s *Store) Up() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = false
	for _, l := range s.leases {
		s.renew(l)
	}
	s.resume()
}
