package scheduler

import (
	"fmt"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// seeRevocations takes in which tokens of a tenant are refused. What can't be
// read changes nothing: placements keep what they carry.
func (s *snapshot) seeRevocations(tenant string, e etcd.Event) {
	t := s.tenant(tenant)
	s.mark(tenant)
	if e.Deleted {
		t.revoked, t.unrevoked = nil, ""
		return
	}
	all, err := cluster.DecodeRevocations(e.Value)
	if err != nil {
		t.unrevoked = fmt.Sprintf("revocations: what was written %v; what was revoked before stays so", err)
		return
	}
	t.revoked, t.unrevoked = all, ""
	if len(all) == 0 {
		t.revoked = nil // as a placement has it
	}
}

// refused are the revocations that a placement is to carry.
func (t *tenant) refused() []cluster.Revocation {
	if t.unrevoked == "" || t.revoked != nil {
		return t.revoked
	}
	for _, key := range sorted(t.placed) { // a new leader's only word on what was good last
		if all := t.placed[key].Revoked; all != nil {
			return all
		}
	}
	return nil
}
