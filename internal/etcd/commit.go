package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
)

var (
	// ErrFenced means that the fence has fallen: another leads now. None of
	// the refused transaction's operations took place.
	ErrFenced = errors.New("another leads now")
	// ErrAmbiguous means that a transaction may or may not have taken place:
	// read again, never guess.
	ErrAmbiguous = errors.New("whether it was written is unknown")
	// ErrChanged means that a key is not as [Unchanged] wanted it, or that the
	// fence has fallen. None of the refused transaction's operations took place.
	ErrChanged = errors.New("what it was decided by has changed, or another leads now")
	// ErrCompacted means that etcd no longer has the changes asked for.
	ErrCompacted = errors.New("etcd has dropped what was changed")
	// ErrTooLarge means that a group doesn't fit one transaction.
	ErrTooLarge = errors.New("does not fit one transaction")
)

// Bounds of one transaction: etcd's own are 128 operations, of which one is left
// for who adds a line of his own to all that he writes, and 1.5 MiB.
const (
	maxOps   = 127
	maxBytes = 1 << 20
	// maxLone is the most that an operation by itself may measure.
	maxLone = 3<<19 - 4<<10
	// inFlight transactions at a time keep etcd's group commit busy.
	inFlight = 8
)

// Op is one write, or a condition of those that are in a group with it.
type Op struct {
	Key      string
	Value    []byte
	Delete   bool
	Check    bool  // write nothing; see [Unchanged]
	Revision int64 // of Check
}

// Put sets a key.
func Put(key string, value []byte) Op { return Op{Key: key, Value: value} }

// Delete removes a key.
func Delete(key string) Op { return Op{Key: key, Delete: true} }

// Unchanged lets a group take place only if a key was last changed at a
// revision; 0: if it is not there.
func Unchanged(key string, revision int64) Op { return Op{Key: key, Check: true, Revision: revision} }

// Fits says whether operations can be one group.
func Fits(ops []Op) bool {
	return len(ops) <= maxOps && sizeOf(ops) <= maxBytes || len(ops) == 1 && sizeOf(ops) <= maxLone
}

func sizeOf(ops []Op) (size int) {
	for _, op := range ops {
		size += op.size()
	}
	return size
}

func (o Op) size() int { return len(o.Key) + len(o.Value) + 32 }

// Commit writes groups of operations in as few transactions as fit, several
// at a time. A group's operations ([Fits]) take place together or not at all; between
// groups there is no order, so two groups must not touch one key. With a fence,
// every transaction is under it; nil writes without.
//
// A group with a condition is a transaction by itself.
//
// It returns the highest revision it made. Its error wraps [ErrFenced],
// [ErrChanged], [ErrAmbiguous] or [ErrTooLarge] (for that group alone: the
// others are written); after the first three, groups not yet sent are left out.
func Commit(ctx context.Context, cli *clientv3.Client, fence *Fence, groups ...[]Op) (int64, error) {
	return commit(ctx, cli, fence.holds(), 0, groups)
}

func commit(ctx context.Context, cli *clientv3.Client, fence []clientv3.Cmp, lease clientv3.LeaseID, groups [][]Op) (int64, error) {
	transactions, err := pack(groups)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		wg       sync.WaitGroup
		mu       sync.Mutex
		revision int64
		room     = make(chan struct{}, inFlight)
	)
	for _, ops := range transactions {
		room <- struct{}{}
		mu.Lock()
		stop := err != nil && !errors.Is(err, ErrTooLarge) || ctx.Err() != nil
		mu.Unlock()
		if stop {
			break
		}
		wg.Go(func() {
			rev, failure := write(ctx, cli, fence, lease, ops)
			mu.Lock()
			defer mu.Unlock()
			defer func() { <-room }()
			revision, err = max(revision, rev), errors.Join(err, failure)
		})
	}
	wg.Wait()
	return revision, errors.Join(err, context.Cause(ctx))
}

// pack fills transactions with whole groups in their order. Groups that fit
// none are left out and named in the error.
func pack(groups [][]Op) (transactions [][]Op, err error) {
	var (
		ops  []Op
		size int
	)
	for _, group := range groups {
		if len(group) == 0 {
			continue
		}
		more := sizeOf(group)
		if !Fits(group) {
			err = errors.Join(err, fmt.Errorf("cannot write %s: %d operations, %d bytes: %w", group[0].Key, len(group), more, ErrTooLarge))
			continue
		}
		if slices.ContainsFunc(group, func(op Op) bool { return op.Check }) {
			transactions = append(transactions, group)
			continue
		}
		if len(ops) > 0 && (len(ops)+len(group) > maxOps || size+more > maxBytes) {
			transactions, ops, size = append(transactions, ops), nil, 0
		}
		ops, size = append(ops, group...), size+more
	}
	if len(ops) > 0 {
		transactions = append(transactions, ops)
	}
	return transactions, err
}

func write(ctx context.Context, cli *clientv3.Client, fence []clientv3.Cmp, lease clientv3.LeaseID, ops []Op) (int64, error) {
	then, refused := make([]clientv3.Op, 0, len(ops)), ErrFenced
	for _, op := range ops {
		switch {
		case op.Check:
			fence = append(slices.Clip(fence), clientv3.Compare(clientv3.ModRevision(op.Key), "=", op.Revision))
			refused = ErrChanged
		case op.Delete:
			then = append(then, clientv3.OpDelete(op.Key))
		default:
			then = append(then, clientv3.OpPut(op.Key, string(op.Value), clientv3.WithLease(lease)))
		}
	}
	r, err := cli.Txn(ctx).If(fence...).Then(then...).Commit()
	switch {
	case err != nil:
		return 0, fmt.Errorf("cannot write %d keys: %w", len(ops), classify(err))
	case !r.Succeeded:
		return 0, fmt.Errorf("cannot write %d keys: %w", len(then), refused)
	}
	return r.Header.Revision, nil
}

// classify marks an error as ambiguous unless etcd said no.
func classify(err error) error {
	var refused rpctypes.EtcdError
	if errors.As(rpctypes.Error(err), &refused) {
		switch refused.Code() {
		case codes.InvalidArgument, codes.PermissionDenied, codes.Unauthenticated,
			codes.ResourceExhausted, codes.NotFound, codes.FailedPrecondition:
			return err
		}
	}
	return fmt.Errorf("%w: %w", ErrAmbiguous, err)
}
