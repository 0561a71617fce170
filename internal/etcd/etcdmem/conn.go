package etcdmem

import (
	"context"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Conn is one process's way to the store.
type Conn struct {
	store *Store
	cut   bool // guarded by the store's lock
	fault Faults
}

// Faults are what goes wrong on a connection. They are asked for each call.
type Faults struct {
	Delay func() time.Duration // before a call is carried out; nil: none
	Lose  func() bool          // the answer of a write gets lost; nil: never
	// Late is how long a write is held up on its way although its sender has
	// been told that the connection is gone; nil, or 0: it isn't.
	Late func() time.Duration
}

// Connect makes a connection, and the client that uses it. The client ends
// with ctx, or when it is closed.
func (s *Store) Connect(ctx context.Context, f Faults) (*Conn, *clientv3.Client) {
	c := &Conn{store: s, fault: f}
	cli := clientv3.NewCtxClient(ctx)
	cli.KV = clientv3.NewKVFromKVClient(kv{c}, cli)
	cli.Lease = lessor{clientv3.NewLeaseFromLeaseClient(leases{c}, cli, firstKeepAlive), c}
	cli.Watcher = &watcher{conn: c, groups: map[string][]*watch{}}
	return c, cli
}

// Cut breaks the connection: calls fail, streams end.
func (c *Conn) Cut() {
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	c.cut = true
	c.store.hangUp(c)
}

// Mend makes it whole again.
func (c *Conn) Mend() {
	c.store.mu.Lock()
	defer c.store.mu.Unlock()
	c.cut = false
	c.store.resume()
}

// unreachable is how long a call waits for a store that isn't there.
const unreachable = 500 * time.Millisecond

// call carries out a call with the store locked.
func call[T any](ctx context.Context, c *Conn, write bool, do func() (T, error)) (answer T, err error) {
	delay := time.Duration(0)
	if c.fault.Delay != nil {
		delay = c.fault.Delay()
	}
	if err := pause(ctx, delay); err != nil {
		return answer, err
	}
	if write && c.fault.Late != nil {
		if late := c.fault.Late(); late > 0 {
			time.AfterFunc(late, func() {
				c.store.mu.Lock()
				defer c.store.mu.Unlock()
				if !c.store.down {
					_, _ = do() // nobody waits for the answer
				}
			})
			return answer, errGone
		}
	}
	c.store.mu.Lock()
	gone := c.cut || c.store.down
	if !gone {
		answer, err = do()
	}
	c.store.mu.Unlock()
	if gone {
		if err := pause(ctx, unreachable); err != nil {
			return answer, err
		}
		return answer, errGone
	}
	if write && c.fault.Lose != nil && c.fault.Lose() {
		var none T
		return none, errGone
	}
	return answer, err
}

func pause(ctx context.Context, d time.Duration) error {
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	if err := ctx.Err(); err != nil {
		return status.FromContextError(err).Err()
	}
	return nil
}

type kv struct{ *Conn }

func (c kv) Range(ctx context.Context, r *pb.RangeRequest, _ ...grpc.CallOption) (*pb.RangeResponse, error) {
	return call(ctx, c.Conn, false, func() (*pb.RangeResponse, error) { return c.store.get(r, c.store.revision) })
}

func (c kv) RangeStream(context.Context, *pb.RangeRequest, ...grpc.CallOption) (grpc.ServerStreamingClient[pb.RangeStreamResponse], error) {
	return nil, unsupported("streamed ranges")
}

func (c kv) Put(ctx context.Context, r *pb.PutRequest, _ ...grpc.CallOption) (*pb.PutResponse, error) {
	a, err := c.one(ctx, &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: r}})
	if err != nil {
		return nil, err
	}
	put := a.Responses[0].GetResponsePut()
	put.Header = a.Header
	return put, nil
}

func (c kv) DeleteRange(ctx context.Context, r *pb.DeleteRangeRequest, _ ...grpc.CallOption) (*pb.DeleteRangeResponse, error) {
	a, err := c.one(ctx, &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: r}})
	if err != nil {
		return nil, err
	}
	gone := a.Responses[0].GetResponseDeleteRange()
	gone.Header = a.Header
	return gone, nil
}

func (c kv) one(ctx context.Context, op *pb.RequestOp) (*pb.TxnResponse, error) {
	return c.Txn(ctx, &pb.TxnRequest{Success: []*pb.RequestOp{op}})
}

func (c kv) Txn(ctx context.Context, r *pb.TxnRequest, _ ...grpc.CallOption) (*pb.TxnResponse, error) {
	return call(ctx, c.Conn, true, func() (*pb.TxnResponse, error) { return c.store.txn(r) })
}

func (c kv) Compact(ctx context.Context, r *pb.CompactionRequest, _ ...grpc.CallOption) (*pb.CompactionResponse, error) {
	return call(ctx, c.Conn, true, func() (*pb.CompactionResponse, error) {
		return &pb.CompactionResponse{Header: c.store.header()}, c.store.compact(r.Revision)
	})
}

type leases struct{ *Conn }

func (c leases) LeaseGrant(ctx context.Context, r *pb.LeaseGrantRequest, _ ...grpc.CallOption) (*pb.LeaseGrantResponse, error) {
	return call(ctx, c.Conn, true, func() (*pb.LeaseGrantResponse, error) { return c.store.grant(r) })
}

func (c leases) LeaseRevoke(ctx context.Context, r *pb.LeaseRevokeRequest, _ ...grpc.CallOption) (*pb.LeaseRevokeResponse, error) {
	return call(ctx, c.Conn, true, func() (*pb.LeaseRevokeResponse, error) {
		l := c.store.leases[r.ID]
		if l == nil {
			return nil, status.Error(codes.NotFound, "etcdserver: requested lease not found")
		}
		c.store.revoke(l)
		return &pb.LeaseRevokeResponse{Header: c.store.header()}, nil
	})
}

func (c leases) LeaseTimeToLive(ctx context.Context, r *pb.LeaseTimeToLiveRequest, _ ...grpc.CallOption) (*pb.LeaseTimeToLiveResponse, error) {
	return call(ctx, c.Conn, false, func() (*pb.LeaseTimeToLiveResponse, error) {
		a := &pb.LeaseTimeToLiveResponse{Header: c.store.header(), ID: r.ID, TTL: -1}
		if l := c.store.leases[r.ID]; l != nil {
			a.TTL, a.GrantedTTL = int64(time.Until(l.until)/time.Second), int64(l.ttl/time.Second)
			for key := range l.keys {
				if r.Keys {
					a.Keys = append(a.Keys, []byte(key))
				}
			}
		}
		return a, nil
	})
}

func (c leases) LeaseLeases(context.Context, *pb.LeaseLeasesRequest, ...grpc.CallOption) (*pb.LeaseLeasesResponse, error) {
	return nil, unsupported("list of leases")
}

func (c leases) LeaseKeepAlive(context.Context, ...grpc.CallOption) (grpc.BidiStreamingClient[pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse], error) {
	return nil, unsupported("stream that keeps leases") // lessor does it
}
