package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"bulkhead/internal/etcd"
	"bulkhead/internal/etcd/etcdtest"
)

func TestCommitPacksGroupsWhole(t *testing.T) {
	t.Parallel()
	_, cli := etcdtest.New(t)
	var groups [][]etcd.Op
	for i := range 300 {
		groups = append(groups, []etcd.Op{
			etcd.Put(fmt.Sprintf("/p/%d", i), []byte("p")),
			etcd.Put(fmt.Sprintf("/u/%d", i), []byte("u")),
			etcd.Delete(fmt.Sprintf("/d/%d", i)),
		})
	}
	if _, err := etcd.Commit(t.Context(), cli, nil, groups...); err != nil {
		t.Fatal(err)
	}
	b, err := etcd.List(t.Context(), cli, "/p/", "/u/")
	if err != nil || len(b.Events) != 600 {
		t.Fatalf("%d keys, %v", len(b.Events), err)
	}
	at := map[string]int64{}
	for _, e := range b.Events {
		at[e.Key] = e.Revision
	}
	for i := range 300 {
		if at[fmt.Sprintf("/p/%d", i)] != at[fmt.Sprintf("/u/%d", i)] {
			t.Fatalf("group %d was split over two transactions", i)
		}
	}
}

func TestCommitErrors(t *testing.T) {
	t.Parallel()
	server, cli := etcdtest.New(t)
	r, err := cli.Put(t.Context(), "/leader", "me")
	if err != nil {
		t.Fatal(err)
	}
	fence := &etcd.Fence{Key: "/leader", Revision: r.Header.Revision}
	if _, err := etcd.Commit(t.Context(), cli, fence, []etcd.Op{etcd.Put("/a", []byte("1"))}); err != nil {
		t.Errorf("under a standing fence: %v", err)
	}
	big := []etcd.Op{etcd.Put("/big", []byte(strings.Repeat("x", 2<<20)))}
	_, err = etcd.Commit(t.Context(), cli, fence, big, []etcd.Op{etcd.Put("/small", nil)})
	if !errors.Is(err, etcd.ErrTooLarge) {
		t.Errorf("a group of 2 MiB: %v", err)
	}
	if got, _ := cli.Get(t.Context(), "/small"); got.Count != 1 {
		t.Error("one group too large held up another")
	}
	cli.Delete(t.Context(), "/leader")
	cli.Put(t.Context(), "/leader", "another")
	_, err = etcd.Commit(t.Context(), cli, fence, []etcd.Op{etcd.Put("/a", []byte("2"))})
	if !errors.Is(err, etcd.ErrFenced) {
		t.Errorf("under a fallen fence: %v", err)
	}
	if got, _ := cli.Get(t.Context(), "/a"); string(got.Kvs[0].Value) != "1" {
		t.Error("a fenced write took place")
	}
	server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = etcd.Commit(ctx, cli, nil, []etcd.Op{etcd.Put("/a", []byte("3"))})
	if err == nil {
		t.Error("a write into nothing succeeded")
	}
}

func TestEmbedSaysWhatIsInTheWay(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := etcdtest.Start(t, dir, etcdtest.AnyPort)
	if _, err := etcd.Embed(dir, etcdtest.AnyPort, etcdtest.AnyPort); !errors.Is(err, etcd.ErrLocked) {
		t.Errorf("a second etcd on one directory: %v", err)
	}
	if _, err := etcd.Embed(t.TempDir(), s.Endpoints()[0], etcdtest.AnyPort); err == nil || !strings.Contains(err.Error(), "taken by another process") {
		t.Errorf("a second etcd on one port: %v", err)
	}
	s.Close()
	s.Close() // once more does no harm
	etcdtest.Start(t, dir, etcdtest.AnyPort)
}

func TestOneLargeValueGoesByItself(t *testing.T) {
	t.Parallel()
	_, cli := etcdtest.New(t)
	large := []byte(strings.Repeat("x", 5<<18)) // 1.25 MiB, the most that a function may measure
	groups := [][]etcd.Op{{etcd.Put("/a", nil)}, {etcd.Put("/large", large)}, {etcd.Put("/b", nil)}}
	if _, err := etcd.Commit(t.Context(), cli, nil, groups...); err != nil {
		t.Fatal(err)
	}
	if etcd.Fits([]etcd.Op{etcd.Put("/large", large), etcd.Put("/b", nil)}) {
		t.Error("it fits together with another")
	}
	if got, err := cli.Get(t.Context(), "/large"); err != nil || len(got.Kvs[0].Value) != len(large) {
		t.Errorf("it was not written whole: %v", err)
	}
}

func TestGroupsTakePlaceOnlyWhileNothingHasChanged(t *testing.T) {
	t.Parallel()
	_, cli := etcdtest.New(t)
	r, err := cli.Put(t.Context(), "/cycle", "drain")
	if err != nil {
		t.Fatal(err)
	}
	absent := []etcd.Op{etcd.Unchanged("/new", 0), etcd.Put("/new", []byte("1"))}
	same := []etcd.Op{etcd.Unchanged("/cycle", r.Header.Revision), etcd.Put("/cycle", []byte("leave")), etcd.Put("/order", nil)}
	if _, err := etcd.Commit(t.Context(), cli, nil, absent, same); err != nil {
		t.Fatal(err)
	}
	for _, again := range [][]etcd.Op{absent, same} {
		if _, err := etcd.Commit(t.Context(), cli, nil, again); !errors.Is(err, etcd.ErrChanged) {
			t.Errorf("%s, once more: %v", again[0].Key, err)
		}
	}
	_, err = etcd.Commit(t.Context(), cli, nil, []etcd.Op{etcd.Put("/other", nil)}, same)
	if got, _ := cli.Get(t.Context(), "/other"); got.Count != 1 || err == nil {
		t.Errorf("a condition of one group stopped another, or nothing: %v", err)
	}
}
