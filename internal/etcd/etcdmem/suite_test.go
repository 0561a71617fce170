package etcdmem_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"bulkhead/internal/etcd"
	"bulkhead/internal/etcd/etcdmem"
	"bulkhead/internal/etcd/etcdtest"
)

// Both stores are held to the same words.
func TestStoresObeyTheSameRules(t *testing.T) {
	stores := map[string]func(*testing.T) *clientv3.Client{
		"etcd": func(t *testing.T) *clientv3.Client {
			_, cli := etcdtest.New(t)
			return cli
		},
		"in memory": func(t *testing.T) *clientv3.Client {
			_, cli := etcdmem.New().Connect(t.Context(), etcdmem.Faults{})
			t.Cleanup(func() { cli.Close() })
			return cli
		},
	}
	rules := []struct {
		name string
		hold func(*testing.T, *clientv3.Client)
	}{
		{"revisions count transactions that change something", revisions},
		{"a transaction takes place whole or not at all", transactions},
		{"limits", limits},
		{"ranges", ranges},
		{"a lease takes its keys along", leases},
		{"a watch begins in the past and keeps its order", watches},
		{"compaction ends what needs the past", compaction},
		{"elections", elections},
		{"presence and watches of ours", ours},
		{"a renewed fence stops what was sent before", renewal},
	}
	for store, open := range stores {
		for _, rule := range rules {
			t.Run(store+"/"+rule.name, func(t *testing.T) {
				t.Parallel()
				rule.hold(t, open(t))
			})
		}
	}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func revisions(t *testing.T, c *clientv3.Client) {
	first := must[*clientv3.GetResponse](t)(c.Get(t.Context(), "a")).Header.Revision
	put := must[*clientv3.PutResponse](t)
	if got := put(c.Put(t.Context(), "a", "1")).Header.Revision; got != first+1 {
		t.Errorf("a put is at revision %d, want %d", got, first+1)
	}
	if got := must[*clientv3.DeleteResponse](t)(c.Delete(t.Context(), "nothing")); got.Header.Revision != first+1 || got.Deleted != 0 {
		t.Errorf("deleting nothing: revision %d, deleted %d", got.Header.Revision, got.Deleted)
	}
	put(c.Put(t.Context(), "a", "2"))
	kv := must[*clientv3.GetResponse](t)(c.Get(t.Context(), "a")).Kvs[0]
	if kv.CreateRevision != first+1 || kv.ModRevision != first+2 || kv.Version != 2 {
		t.Errorf("after two puts: created %d, changed %d, version %d", kv.CreateRevision, kv.ModRevision, kv.Version)
	}
	c.Delete(t.Context(), "a")
	put(c.Put(t.Context(), "a", "3"))
	kv = must[*clientv3.GetResponse](t)(c.Get(t.Context(), "a")).Kvs[0]
	if kv.CreateRevision != first+4 || kv.Version != 1 {
		t.Errorf("after a deletion: created %d, version %d", kv.CreateRevision, kv.Version)
	}
	past := must[*clientv3.GetResponse](t)(c.Get(t.Context(), "a", clientv3.WithRev(first+2)))
	if len(past.Kvs) != 1 || string(past.Kvs[0].Value) != "2" {
		t.Errorf("in the past: %v", past.Kvs)
	}
	if _, err := c.Get(t.Context(), "a", clientv3.WithRev(first+100)); !errors.Is(err, rpctypes.ErrFutureRev) {
		t.Errorf("in the future: %v", err)
	}
}

func transactions(t *testing.T, c *clientv3.Client) {
	txn := func(cmp clientv3.Cmp) *clientv3.TxnResponse {
		return must[*clientv3.TxnResponse](t)(c.Txn(t.Context()).If(cmp).
			Then(clientv3.OpPut("x", "yes"), clientv3.OpPut("y", "yes"), clientv3.OpGet("x")).Else(clientv3.OpGet("x")).Commit())
	}
	if r := txn(clientv3.Compare(clientv3.CreateRevision("x"), "=", 0)); !r.Succeeded || string(r.Responses[2].GetResponseRange().Kvs[0].Value) != "yes" {
		t.Errorf("on nothing: %+v", r)
	}
	for name, cmp := range map[string]clientv3.Cmp{
		"created":    clientv3.Compare(clientv3.CreateRevision("x"), "=", 0),
		"value":      clientv3.Compare(clientv3.Value("x"), "!=", "yes"),
		"version":    clientv3.Compare(clientv3.Version("x"), ">", 1),
		"changed":    clientv3.Compare(clientv3.ModRevision("x"), "<", 1),
		"none there": clientv3.Compare(clientv3.Value("nothing"), "!=", "yes"),
	} {
		if r := txn(cmp); r.Succeeded || len(r.Responses) != 1 {
			t.Errorf("%s: %+v", name, r)
		}
	}
	one := must[*clientv3.GetResponse](t)(c.Get(t.Context(), "x")).Kvs[0]
	two := must[*clientv3.GetResponse](t)(c.Get(t.Context(), "y")).Kvs[0]
	if one.ModRevision != two.ModRevision {
		t.Errorf("one transaction has revisions %d and %d", one.ModRevision, two.ModRevision)
	}
}

func limits(t *testing.T, c *clientv3.Client) {
	before := must[*clientv3.GetResponse](t)(c.Get(t.Context(), "a")).Header.Revision
	var many []clientv3.Op
	for i := range 129 {
		many = append(many, clientv3.OpPut(fmt.Sprint(i), ""))
	}
	for _, tt := range []struct {
		sentence string
		want     error
		ops      []clientv3.Op
	}{
		{"129 operations", rpctypes.ErrTooManyOps, many},
		{"one key twice", rpctypes.ErrDuplicateKey, []clientv3.Op{clientv3.OpPut("a", "1"), clientv3.OpPut("a", "2")}},
		{"a lease that is not there", rpctypes.ErrLeaseNotFound, []clientv3.Op{clientv3.OpPut("a", "1"), clientv3.OpPut("b", "1", clientv3.WithLease(77))}},
		{"no key", rpctypes.ErrEmptyKey, []clientv3.Op{clientv3.OpPut("", "1")}},
		{"more than 1.5 MiB", rpctypes.ErrRequestTooLarge, []clientv3.Op{clientv3.OpPut("a", strings.Repeat("x", 1600<<10))}},
	} {
		if _, err := c.Txn(t.Context()).Then(tt.ops...).Commit(); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.sentence, err, tt.want)
		}
	}
	if after := must[*clientv3.GetResponse](t)(c.Get(t.Context(), "a")); after.Header.Revision != before || len(after.Kvs) > 0 {
		t.Errorf("what was refused left something: revision %d, was %d; %v", after.Header.Revision, before, after.Kvs)
	}
}

func ranges(t *testing.T, c *clientv3.Client) {
	for _, key := range []string{"/p/c", "/p/a", "/q", "/p/b", "/o"} {
		must[*clientv3.PutResponse](t)(c.Put(t.Context(), key, "v"+key))
	}
	c.Delete(t.Context(), "/p/b")
	created := must[*clientv3.GetResponse](t)(c.Get(t.Context(), "/p/a")).Kvs[0].CreateRevision
	for _, tt := range []struct {
		sentence, want string
		more           bool
		options        []clientv3.OpOption
	}{
		{"a prefix", "/p/a /p/c", false, []clientv3.OpOption{clientv3.WithPrefix()}},
		{"the first of it", "/p/a", true, []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithLimit(1)}},
		{"all that follow", "/p/a /p/c /q", false, []clientv3.OpOption{clientv3.WithFromKey()}},
		{"by creation", "/p/c /p/a", false, []clientv3.OpOption{clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend)}},
		{"the last one created before", "/p/c", true, append(clientv3.WithLastCreate(), clientv3.WithMaxCreateRev(created-1))},
	} {
		r := must[*clientv3.GetResponse](t)(c.Get(t.Context(), "/p/", tt.options...))
		var got []string
		for _, kv := range r.Kvs {
			got = append(got, string(kv.Key))
		}
		if strings.Join(got, " ") != tt.want || tt.sentence != "the last one created before" && r.More != tt.more {
			t.Errorf("%s: %v, more %v", tt.sentence, got, r.More)
		}
	}
	keys := must[*clientv3.GetResponse](t)(c.Get(t.Context(), "/p/", clientv3.WithPrefix(), clientv3.WithKeysOnly()))
	if len(keys.Kvs) != 2 || keys.Kvs[0].Value != nil || keys.Kvs[0].ModRevision == 0 {
		t.Errorf("keys only: %v", keys.Kvs)
	}
	if n := must[*clientv3.GetResponse](t)(c.Get(t.Context(), "/p/", clientv3.WithPrefix(), clientv3.WithCountOnly())); n.Count != 2 || len(n.Kvs) > 0 {
		t.Errorf("count only: %d, %v", n.Count, n.Kvs)
	}
}

func leases(t *testing.T, c *clientv3.Client) {
	short := must[*clientv3.LeaseGrantResponse](t)(c.Grant(t.Context(), 1)).ID
	kept := must[*clientv3.LeaseGrantResponse](t)(c.Grant(t.Context(), 1)).ID
	alive := must[<-chan *clientv3.LeaseKeepAliveResponse](t)(c.KeepAlive(t.Context(), kept))
	start := must[*clientv3.TxnResponse](t)(c.Txn(t.Context()).Then(
		clientv3.OpPut("/l/one", "", clientv3.WithLease(short)), clientv3.OpPut("/l/two", "", clientv3.WithLease(short)),
		clientv3.OpPut("/l/kept", "", clientv3.WithLease(kept)), clientv3.OpPut("/l/freed", "", clientv3.WithLease(short))).Commit()).Header.Revision
	must[*clientv3.PutResponse](t)(c.Put(t.Context(), "/l/freed", "no lease now"))
	watch := c.Watch(t.Context(), "/l/", clientv3.WithPrefix(), clientv3.WithRev(start+2))
	r := <-watch
	if len(r.Events) != 2 || r.Events[0].IsCreate() || r.Events[0].Kv.ModRevision != r.Events[1].Kv.ModRevision {
		t.Errorf("a lease ran out: %v", r.Events)
	}
	if a := <-alive; a == nil || a.ID != kept {
		t.Errorf("the lease that is kept alive answers %v", a)
	}
	if left := must[*clientv3.GetResponse](t)(c.Get(t.Context(), "/l/", clientv3.WithPrefix(), clientv3.WithCountOnly())).Count; left != 2 {
		t.Errorf("%d keys are left, want the one that is kept and the one without a lease", left)
	}
	must[*clientv3.LeaseRevokeResponse](t)(c.Revoke(t.Context(), kept))
	if r := <-watch; len(r.Events) != 1 || string(r.Events[0].Kv.Key) != "/l/kept" {
		t.Errorf("a lease was revoked: %v", r.Events)
	}
	if _, err := c.Revoke(t.Context(), kept); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		t.Errorf("revoked twice: %v", err)
	}
}

func watches(t *testing.T, c *clientv3.Client) {
	start := must[*clientv3.PutResponse](t)(c.Put(t.Context(), "/w/a", "1")).Header.Revision
	must[*clientv3.TxnResponse](t)(c.Txn(t.Context()).Then(clientv3.OpPut("/w/b", "2"), clientv3.OpDelete("/w/a"), clientv3.OpPut("/other", "")).Commit())
	watch := c.Watch(t.Context(), "/w/", clientv3.WithPrefix(), clientv3.WithRev(start))
	go c.Put(context.Background(), "/w/c", "3")
	var got []string
	for len(got) < 4 {
		for _, e := range (<-watch).Events {
			got = append(got, fmt.Sprintf("%s %s %d", e.Type, e.Kv.Key, e.Kv.ModRevision-start))
		}
	}
	if want := "PUT /w/a 0,PUT /w/b 1,DELETE /w/a 1,PUT /w/c 2"; strings.Join(got, ",") != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

func compaction(t *testing.T, c *clientv3.Client) {
	put := must[*clientv3.PutResponse](t)
	old := put(c.Put(t.Context(), "k", "old")).Header.Revision
	put(c.Put(t.Context(), "k", "new"))
	put(c.Put(t.Context(), "gone", ""))
	now := must[*clientv3.DeleteResponse](t)(c.Delete(t.Context(), "gone")).Header.Revision
	must[*clientv3.CompactResponse](t)(c.Compact(t.Context(), now))
	if r := <-c.Watch(t.Context(), "k", clientv3.WithRev(old)); r.CompactRevision != now || !r.Canceled {
		t.Errorf("a watch from before: compact revision %d, cancelled %v; want %d", r.CompactRevision, r.Canceled, now)
	}
	if _, err := c.Get(t.Context(), "k", clientv3.WithRev(old)); !errors.Is(err, rpctypes.ErrCompacted) {
		t.Errorf("a read from before: %v", err)
	}
	if r := must[*clientv3.GetResponse](t)(c.Get(t.Context(), "k", clientv3.WithRev(now))); string(r.Kvs[0].Value) != "new" {
		t.Errorf("what was there is %v", r.Kvs)
	}
	if _, err := c.Compact(t.Context(), now); !errors.Is(err, rpctypes.ErrCompacted) {
		t.Errorf("compacted twice: %v", err)
	}
}

func elections(t *testing.T, c *clientv3.Client) {
	one := must[*concurrency.Session](t)(concurrency.NewSession(c, concurrency.WithTTL(2)))
	two := must[*concurrency.Session](t)(concurrency.NewSession(c, concurrency.WithTTL(2)))
	defer two.Close()
	first, second := concurrency.NewElection(one, "/e"), concurrency.NewElection(two, "/e")
	if err := first.Campaign(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	elected := make(chan error)
	go func() { elected <- second.Campaign(t.Context(), "two") }()
	one.Orphan() // dies: its lease runs out
	if err := <-elected; err != nil {
		t.Fatal(err)
	}
	if leader := must[*clientv3.GetResponse](t)(second.Leader(t.Context())); string(leader.Kvs[0].Value) != "two" {
		t.Errorf("leader is %v", leader.Kvs)
	}
}

func ours(t *testing.T, c *clientv3.Client) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	batches := etcd.Watch(ctx, c, "/one/", "/two/")
	if b := <-batches; !b.Snapshot || len(b.Events) > 0 {
		t.Fatalf("the first batch is %+v", b)
	}
	if _, err := etcd.Commit(ctx, c, nil, []etcd.Op{etcd.Put("/one/a", []byte("1")), etcd.Put("/two/a", []byte("1"))}); err != nil {
		t.Fatal(err)
	}
	if b := <-batches; len(b.Events) != 2 {
		t.Errorf("one transaction over two prefixes comes as %+v", b)
	}
	p := etcd.NewPresence(c, time.Second, "/two/here")
	p.Set("/two/here", []byte("yes"))
	if b := <-batches; len(b.Events) != 1 || b.Events[0].Key != "/two/here" {
		t.Errorf("presence comes as %+v", b)
	}
	p.Close()
	if b := <-batches; len(b.Events) != 1 || !b.Events[0].Deleted {
		t.Errorf("presence ends as %+v", b)
	}
}

func renewal(t *testing.T, c *clientv3.Client) {
	key := must[*clientv3.PutResponse](t)(c.Put(t.Context(), "/e/one", "one")).Header.Revision
	fence := etcd.Fence{Key: "/e/one", Revision: key}
	late := fence // a write that is on its way has the fence as it was
	write := func(f *etcd.Fence) error {
		_, err := etcd.Commit(t.Context(), c, f, []etcd.Op{etcd.Put("/x", nil)})
		return err
	}
	if err := write(&late); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := fence.Renew(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	if err := write(&late); !errors.Is(err, etcd.ErrFenced) {
		t.Errorf("a write from before: %v", err)
	}
	if err := write(&fence); err != nil {
		t.Errorf("a write from after: %v", err)
	}
	must[*clientv3.DeleteResponse](t)(c.Delete(t.Context(), "/e/one"))
	must[*clientv3.PutResponse](t)(c.Put(t.Context(), "/e/one", "another's"))
	if err := fence.Renew(t.Context(), c); !errors.Is(err, etcd.ErrFenced) {
		t.Errorf("renewed although it is another's: %v", err)
	}
}
