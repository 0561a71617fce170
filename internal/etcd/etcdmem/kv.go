package etcdmem

import (
	"bytes"
	"cmp"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// etcd's own limits (embed.DefaultMaxTxnOps, embed.DefaultMaxRequestBytes).
const (
	maxOps   = 128
	maxBytes = 1536 << 10
)

func unsupported(what string) error {
	return status.Errorf(codes.Unimplemented, "the store in memory has no %s", what)
}

// get answers a range as of the revision that it asks for, or of one that is
// being written.
func (s *Store) get(r *pb.RangeRequest, now int64) (*pb.RangeResponse, error) {
	revision := r.Revision
	switch {
	case len(r.Key) == 0:
		return nil, rpctypes.ErrGRPCEmptyKey
	case revision > s.revision:
		return nil, rpctypes.ErrGRPCFutureRev
	case revision > 0 && revision < s.compacted:
		return nil, rpctypes.ErrGRPCCompacted
	case revision <= 0:
		revision = now
	}
	kvs := slices.DeleteFunc(s.within(r.Key, r.RangeEnd, revision), func(kv *mvccpb.KeyValue) bool {
		return r.MinModRevision > 0 && kv.ModRevision < r.MinModRevision || r.MaxModRevision > 0 && kv.ModRevision > r.MaxModRevision ||
			r.MinCreateRevision > 0 && kv.CreateRevision < r.MinCreateRevision || r.MaxCreateRevision > 0 && kv.CreateRevision > r.MaxCreateRevision
	})
	sortKeys(kvs, r.SortTarget, r.SortOrder)
	a := &pb.RangeResponse{Header: s.header(), Count: int64(len(kvs))}
	if r.CountOnly {
		return a, nil
	}
	if r.Limit > 0 && int64(len(kvs)) > r.Limit {
		kvs, a.More = kvs[:r.Limit], true
	}
	for _, kv := range kvs {
		if r.KeysOnly {
			kv = &mvccpb.KeyValue{Key: kv.Key, CreateRevision: kv.CreateRevision, ModRevision: kv.ModRevision, Version: kv.Version, Lease: kv.Lease}
		}
		a.Kvs = append(a.Kvs, kv)
	}
	return a, nil
}

func sortKeys(kvs []*mvccpb.KeyValue, by pb.RangeRequest_SortTarget, order pb.RangeRequest_SortOrder) {
	if order == pb.RangeRequest_NONE && by == pb.RangeRequest_KEY {
		return // they are
	}
	slices.SortStableFunc(kvs, func(a, b *mvccpb.KeyValue) (c int) {
		switch by {
		case pb.RangeRequest_KEY:
			c = bytes.Compare(a.Key, b.Key)
		case pb.RangeRequest_VERSION:
			c = cmp.Compare(a.Version, b.Version)
		case pb.RangeRequest_CREATE:
			c = cmp.Compare(a.CreateRevision, b.CreateRevision)
		case pb.RangeRequest_MOD:
			c = cmp.Compare(a.ModRevision, b.ModRevision)
		case pb.RangeRequest_VALUE:
			c = bytes.Compare(a.Value, b.Value)
		}
		if order == pb.RangeRequest_DESCEND {
			c = -c
		}
		return c
	})
}

// writing is a transaction's changes while it is carried out.
type writing struct {
	*Store
	revision int64
	events   []*mvccpb.Event
}

func (w *writing) put(r *pb.PutRequest) (*pb.PutResponse, error) {
	a := &pb.PutResponse{Header: w.header()}
	old := w.at(string(r.Key), w.revision)
	if r.PrevKv {
		a.PrevKv = old
	}
	kv := &mvccpb.KeyValue{Key: r.Key, Value: r.Value, CreateRevision: w.revision, ModRevision: w.revision, Version: 1, Lease: r.Lease}
	if old != nil {
		kv.CreateRevision, kv.Version = old.CreateRevision, old.Version+1
		w.detach(old)
	}
	if r.Lease != 0 {
		w.leases[r.Lease].keys[string(r.Key)] = true
	}
	w.write(kv)
	w.events = append(w.events, &mvccpb.Event{Type: mvccpb.Event_PUT, Kv: kv, PrevKv: old})
	return a, nil
}

func (w *writing) delete(r *pb.DeleteRangeRequest) *pb.DeleteRangeResponse {
	gone := w.within(r.Key, r.RangeEnd, w.revision)
	a := &pb.DeleteRangeResponse{Header: w.header(), Deleted: int64(len(gone))}
	for _, old := range gone {
		w.detach(old)
		kv := &mvccpb.KeyValue{Key: old.Key, ModRevision: w.revision}
		w.write(kv)
		w.events = append(w.events, &mvccpb.Event{Type: mvccpb.Event_DELETE, Kv: kv, PrevKv: old})
		if r.PrevKv {
			a.PrevKvs = append(a.PrevKvs, old)
		}
	}
	return a
}

// detach takes a key from the lease that it had.
func (s *Store) detach(kv *mvccpb.KeyValue) {
	if l := s.leases[kv.Lease]; l != nil {
		delete(l.keys, string(kv.Key))
	}
}

// txn carries out a whole transaction, or nothing of it.
func (s *Store) txn(r *pb.TxnRequest) (*pb.TxnResponse, error) {
	if proto.Size(r) > maxBytes {
		return nil, rpctypes.ErrGRPCRequestTooLarge
	}
	if err := s.check(r); err != nil {
		return nil, err
	}
	w := &writing{s, s.revision + 1, nil}
	a, err := w.run(r)
	if err != nil {
		return nil, err // before anything was written: reads come first to fail
	}
	s.commit(w.events)
	a.Header = s.header()
	return a, nil
}

// check refuses what etcd refuses before it looks at any key.
func (s *Store) check(r *pb.TxnRequest) error {
	for _, ops := range [][]*pb.RequestOp{r.Success, r.Failure} {
		if len(ops) > maxOps || len(r.Compare) > maxOps {
			return rpctypes.ErrGRPCTooManyOps
		}
		written := map[string]bool{}
		for _, op := range ops {
			var err error
			switch v := op.Request.(type) {
			case *pb.RequestOp_RequestPut:
				err = s.checkPut(v.RequestPut, written)
			case *pb.RequestOp_RequestDeleteRange:
				if len(v.RequestDeleteRange.Key) == 0 {
					err = rpctypes.ErrGRPCEmptyKey
				} else if len(v.RequestDeleteRange.RangeEnd) == 0 && written[string(v.RequestDeleteRange.Key)] {
					err = rpctypes.ErrGRPCDuplicateKey
				}
			case *pb.RequestOp_RequestRange:
				_, err = s.get(v.RequestRange, s.revision)
			case *pb.RequestOp_RequestTxn:
				err = s.check(v.RequestTxn)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Store) checkPut(r *pb.PutRequest, written map[string]bool) error {
	switch {
	case len(r.Key) == 0:
		return rpctypes.ErrGRPCEmptyKey
	case r.IgnoreValue || r.IgnoreLease:
		return unsupported("puts that ignore value or lease")
	case written[string(r.Key)]:
		return rpctypes.ErrGRPCDuplicateKey
	case r.Lease != 0 && s.leases[r.Lease] == nil:
		return rpctypes.ErrGRPCLeaseNotFound
	}
	written[string(r.Key)] = true
	return nil
}

func (w *writing) run(r *pb.TxnRequest) (*pb.TxnResponse, error) {
	a := &pb.TxnResponse{Header: w.header(), Succeeded: true}
	for _, c := range r.Compare {
		if len(c.RangeEnd) > 0 {
			return nil, unsupported("comparisons of ranges")
		}
		a.Succeeded = a.Succeeded && holds(c, w.at(string(c.Key), w.revision))
	}
	ops := r.Success
	if !a.Succeeded {
		ops = r.Failure
	}
	for _, op := range ops {
		answer := &pb.ResponseOp{}
		switch v := op.Request.(type) {
		case *pb.RequestOp_RequestPut:
			p, err := w.put(v.RequestPut)
			if err != nil {
				return nil, err
			}
			answer.Response = &pb.ResponseOp_ResponsePut{ResponsePut: p}
		case *pb.RequestOp_RequestDeleteRange:
			answer.Response = &pb.ResponseOp_ResponseDeleteRange{ResponseDeleteRange: w.delete(v.RequestDeleteRange)}
		case *pb.RequestOp_RequestRange:
			g, err := w.get(v.RequestRange, w.revision)
			if err != nil {
				return nil, err
			}
			answer.Response = &pb.ResponseOp_ResponseRange{ResponseRange: g}
		case *pb.RequestOp_RequestTxn:
			t, err := w.run(v.RequestTxn)
			if err != nil {
				return nil, err
			}
			answer.Response = &pb.ResponseOp_ResponseTxn{ResponseTxn: t}
		}
		a.Responses = append(a.Responses, answer)
	}
	return a, nil
}

// holds says whether a comparison is true of a key; nil: it is not there.
func holds(c *pb.Compare, kv *mvccpb.KeyValue) bool {
	if kv == nil {
		if c.Target == pb.Compare_VALUE {
			return false // etcd: no value compares with none
		}
		kv = &mvccpb.KeyValue{}
	}
	got := 0
	switch c.Target {
	case pb.Compare_VERSION:
		got = cmp.Compare(kv.Version, c.GetVersion())
	case pb.Compare_CREATE:
		got = cmp.Compare(kv.CreateRevision, c.GetCreateRevision())
	case pb.Compare_MOD:
		got = cmp.Compare(kv.ModRevision, c.GetModRevision())
	case pb.Compare_VALUE:
		got = bytes.Compare(kv.Value, c.GetValue())
	case pb.Compare_LEASE:
		got = cmp.Compare(kv.Lease, c.GetLease())
	}
	switch c.Result {
	case pb.Compare_EQUAL:
		return got == 0
	case pb.Compare_GREATER:
		return got > 0
	case pb.Compare_LESS:
		return got < 0
	}
	return got != 0
}
