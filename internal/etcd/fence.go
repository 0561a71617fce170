package etcd

import (
	"context"
	"fmt"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Fence lets writes through only while a key is the one that was created at a
// revision, and has not been changed since another: an election's key while
// its holder leads.
//
// Losing leadership is one reason to stop writes. The other is a write whose
// answer was lost: it may still be on its way, and take place after its writer
// has read everything again and decided otherwise. [Fence.Renew] stops it.
type Fence struct {
	Key      string
	Revision int64 // at which the key was created
	changed  int64 // at which it was changed by Renew last; 0: never
}

// holds are the conditions of a write under the fence.
func (f *Fence) holds() []clientv3.Cmp {
	if f == nil {
		return nil
	}
	return []clientv3.Cmp{
		clientv3.Compare(clientv3.CreateRevision(f.Key), "=", f.Revision),
		clientv3.Compare(clientv3.ModRevision(f.Key), "=", max(f.changed, f.Revision)),
	}
}

// Renew puts the fence in the way of all writes that were sent under it so far
// and have not taken place: they never will. Its error wraps [ErrFenced] when
// the key is another's now.
func (f *Fence) Renew(ctx context.Context, cli *clientv3.Client) error {
	for {
		r, err := cli.Get(ctx, f.Key)
		if err != nil {
			return fmt.Errorf("cannot renew the fence: %w", err)
		}
		if len(r.Kvs) == 0 || r.Kvs[0].CreateRevision != f.Revision {
			return fmt.Errorf("cannot renew the fence: %w", ErrFenced)
		}
		kv := r.Kvs[0]
		t, err := cli.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(f.Key), "=", kv.ModRevision)).
			Then(clientv3.OpPut(f.Key, string(kv.Value), clientv3.WithLease(clientv3.LeaseID(kv.Lease)))).Commit()
		if err != nil {
			return fmt.Errorf("cannot renew the fence: %w", err)
		}
		if t.Succeeded {
			f.changed = t.Header.Revision
			return nil
		}
	}
}
