package audit

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// mostKeys is how many of the keys that are written a claim names at most.
const mostKeys = 8

// Claiming makes all writes of a client say who does them: user is its user of
// etcd, and c what he says of himself. Each transaction has one operation more,
// so that 127 of etcd's 128 are left, and a single put or delete becomes a
// transaction. Reads are as they were.
func Claiming(kv clientv3.KV, user string, c Claim) clientv3.KV { return claiming{kv, user, c} }

// Say writes a claim by itself: that something was done which changes no key.
func Say(ctx context.Context, kv clientv3.KV, did, what string) error {
	c, ok := kv.(claiming)
	if !ok {
		return nil
	}
	c.claim.Did, c.claim.What = did, what
	_, err := c.KV.Do(ctx, c.op(nil))
	return err
}

type claiming struct {
	clientv3.KV
	user  string
	claim Claim
}

// op is the operation that goes with others.
func (c claiming) op(with []clientv3.Op) clientv3.Op {
	claim := c.claim
	for _, op := range with {
		if (op.IsPut() || op.IsDelete()) && len(claim.Keys) < mostKeys {
			claim.Keys = append(claim.Keys, string(op.KeyBytes()))
		}
	}
	op := claim.Op(c.user)
	return clientv3.OpPut(op.Key, string(op.Value))
}

// Op is the write of a claim, for a group of others by the same user.
func (c Claim) Op(user string) etcd.Op {
	c.At = time.Now().UnixNano()
	value, _ := json.Marshal(c) // of texts and a number
	return etcd.Put(cluster.ClaimKey(user), value)
}

func (c claiming) Put(ctx context.Context, key, val string, opts ...clientv3.OpOption) (*clientv3.PutResponse, error) {
	r, err := c.Do(ctx, clientv3.OpPut(key, val, opts...))
	return r.Put(), err
}

func (c claiming) Delete(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.DeleteResponse, error) {
	r, err := c.Do(ctx, clientv3.OpDelete(key, opts...))
	return r.Del(), err
}

func (c claiming) Do(ctx context.Context, op clientv3.Op) (clientv3.OpResponse, error) {
	if !op.IsPut() && !op.IsDelete() {
		return c.KV.Do(ctx, op)
	}
	t, err := c.Txn(ctx).Then(op).Commit()
	if err != nil {
		return clientv3.OpResponse{}, err
	}
	if put := t.Responses[0].GetResponsePut(); put != nil {
		put.Header = t.Header
		return (*clientv3.PutResponse)(put).OpResponse(), nil
	}
	gone := t.Responses[0].GetResponseDeleteRange()
	gone.Header = t.Header
	return (*clientv3.DeleteResponse)(gone).OpResponse(), nil
}

func (c claiming) Txn(ctx context.Context) clientv3.Txn { return &txn{c.KV.Txn(ctx), c, nil, nil} }

// txn says who in both its branches, if they write.
type txn struct {
	clientv3.Txn
	claiming   claiming
	then, othw []clientv3.Op
}

func (t *txn) If(cs ...clientv3.Cmp) clientv3.Txn {
	t.Txn = t.Txn.If(cs...)
	return t
}

func (t *txn) Then(ops ...clientv3.Op) clientv3.Txn {
	t.then = append(t.then, ops...)
	return t
}

func (t *txn) Else(ops ...clientv3.Op) clientv3.Txn {
	t.othw = append(t.othw, ops...)
	return t
}

func (t *txn) Commit() (*clientv3.TxnResponse, error) {
	return t.Txn.Then(t.with(t.then)...).Else(t.with(t.othw)...).Commit()
}

// with adds the claim to operations, of which the responses come first so.
func (t *txn) with(ops []clientv3.Op) []clientv3.Op {
	writes := func(op clientv3.Op) bool { return op.IsPut() || op.IsDelete() }
	if !slices.ContainsFunc(ops, writes) {
		return ops
	}
	return append(slices.Clip(ops), t.claiming.op(ops))
}
