package etcd_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/internal/etcd"
	"bulkhead/internal/etcd/etcdtest"
)

// next waits for the next batch; long, because a loaded machine is slow.
func next(t *testing.T, ch <-chan etcd.Batch) etcd.Batch {
	t.Helper()
	select {
	case b, ok := <-ch:
		if !ok {
			t.Fatal("the watch ended")
		}
		return b
	case <-time.After(30 * time.Second):
		t.Fatal("no batch within 30 s")
	}
	panic("unreachable")
}

func put(t *testing.T, cli *clientv3.Client, key, value string) int64 {
	t.Helper()
	r, err := cli.Put(context.Background(), key, value)
	if err != nil {
		t.Fatal(err)
	}
	return r.Header.Revision
}

func text(events []etcd.Event) string {
	var parts []string
	for _, e := range events {
		if e.Deleted {
			parts = append(parts, "-"+e.Key)
		} else {
			parts = append(parts, e.Key+"="+string(e.Value))
		}
	}
	return strings.Join(parts, " ")
}

func TestWatchSnapshotThenChanges(t *testing.T) {
	t.Parallel()
	_, cli := etcdtest.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for i := range 1203 { // more than two pages
		put(t, cli, fmt.Sprintf("/a/%04d", i), "x")
	}
	rev := put(t, cli, "/c/other", "not watched")
	ch := etcd.Watch(ctx, cli, "/a/", "/b/")
	b := next(t, ch)
	if !b.Snapshot || b.Revision != rev || len(b.Events) != 1203 || b.Cause != "first list" {
		t.Fatalf("first batch: %v %q at %d with %d keys", b.Snapshot, b.Cause, b.Revision, len(b.Events))
	}
	// One transaction over two prefixes comes as one batch.
	r, err := cli.Txn(ctx).Then(clientv3.OpPut("/a/n", "1"), clientv3.OpPut("/b/n", "2"), clientv3.OpDelete("/a/0000")).Commit()
	if err != nil {
		t.Fatal(err)
	}
	b = next(t, ch)
	if b.Snapshot || b.Revision < r.Header.Revision || len(b.Events) != 3 {
		t.Fatalf("after one transaction over both prefixes: %d events: %s", len(b.Events), text(b.Events))
	}
	cancel()
	for range ch {
		t.Error("a batch after the end")
	}
}

func TestWatchKeepsOrderAcrossPrefixes(t *testing.T) {
	t.Parallel()
	_, cli := etcdtest.New(t)
	ch := etcd.Watch(t.Context(), cli, "/a/", "/b/", "/c/")
	next(t, ch)
	const writes = 600
	go func() {
		for i := range writes {
			cli.Put(t.Context(), fmt.Sprintf("/%c/k", "abc"[i%3]), fmt.Sprint(i))
		}
	}()
	for i := 0; i < writes; {
		for _, e := range next(t, ch).Events {
			if string(e.Value) != fmt.Sprint(i) {
				t.Fatalf("event %d is %s=%s", i, e.Key, e.Value)
			}
			i++
		}
	}
}

// A watch that has just begun, and so waits for a revision to come, must not
// keep another on the same client from hearing of the last one.
func TestWatchesDoNotHoldEachOther(t *testing.T) {
	t.Parallel()
	_, cli := etcdtest.New(t)
	first := etcd.Watch(t.Context(), cli, "/a/", "/b/")
	next(t, first)
	for i := range 20 {
		put(t, cli, "/a/k", fmt.Sprint(i))
		second := etcd.Watch(t.Context(), cli, "/c/", "/d/")
		next(t, second)
		if b := next(t, first); text(b.Events) != fmt.Sprintf("/a/k=%d", i) {
			t.Fatalf("%d: %s", i, text(b.Events))
		}
	}
}

// restart stops the server and runs between on nothing, then starts another
// on the same address and directory.
func restart(t *testing.T, s *etcd.Server, dir string, between func()) *etcd.Server {
	t.Helper()
	url := s.Endpoints()[0]
	s.Close()
	between()
	return etcdtest.Start(t, dir, url)
}

func TestWatchResumesAfterRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := etcdtest.Start(t, dir, etcdtest.AnyPort)
	cli := etcdtest.Client(t, s.Endpoints()...)
	ch := etcd.Watch(t.Context(), cli, "/a/", "/b/")
	next(t, ch)
	restart(t, s, dir, func() {})
	put(t, cli, "/a/k", "after")
	for {
		b := next(t, ch)
		if strings.Contains(text(b.Events), "/a/k=after") {
			return
		}
	}
}

func TestWatchListsAgainAfterCompaction(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := etcdtest.Start(t, dir, etcdtest.AnyPort)
	cli := etcdtest.Client(t, s.Endpoints()...)
	put(t, cli, "/a/old", "1")
	ch := etcd.Watch(t.Context(), cli, "/a/")
	next(t, ch)
	// While the watcher's connection is cut, history moves on and is compacted
	// away by someone else.
	url := s.Endpoints()[0]
	s.Close()
	s = etcdtest.Start(t, dir, etcdtest.AnyPort)
	other := etcdtest.Client(t, s.Endpoints()...)
	if _, err := other.Delete(t.Context(), "/a/old"); err != nil {
		t.Fatal(err)
	}
	put(t, other, "/a/gone", "1")
	other.Delete(t.Context(), "/a/gone")
	rev := put(t, other, "/a/new", "2")
	if _, err := other.Compact(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
	other.Close()
	restart(t, s, dir, func() {}).Close()
	etcdtest.Start(t, dir, url)
	b := next(t, ch)
	// Either it found its history compacted, or the server's end had ended it.
	if !b.Snapshot || text(b.Events) != "/a/new=2" {
		t.Fatalf("after compaction: snapshot %v, cause %q, %s", b.Snapshot, b.Cause, text(b.Events))
	}
}

func TestWatchListsAgainAfterRestore(t *testing.T) {
	t.Parallel()
	dir, backup := t.TempDir(), t.TempDir()
	s := etcdtest.Start(t, dir, etcdtest.AnyPort)
	cli := etcdtest.Client(t, s.Endpoints()...)
	put(t, cli, "/a/k", "1")
	s = restart(t, s, dir, func() {
		if err := os.CopyFS(backup, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
	})
	put(t, cli, "/a/k", "2")
	for range 10 {
		put(t, cli, "/a/later", "x")
	}
	ch := etcd.Watch(t.Context(), cli, "/a/", "/b/")
	if b := next(t, ch); text(b.Events) != "/a/k=2 /a/later=x" {
		t.Fatalf("before the restore: %s", text(b.Events))
	}
	url := s.Endpoints()[0]
	s.Close()
	etcdtest.Start(t, backup, url)
	for {
		b := next(t, ch)
		if b.Snapshot {
			if text(b.Events) != "/a/k=1" {
				t.Fatalf("after the restore: %s", text(b.Events))
			}
			t.Log(b.Cause)
			return
		}
	}
}

func TestFollowKeysOnly(t *testing.T) {
	t.Parallel()
	_, cli := etcdtest.New(t)
	put(t, cli, "/code/a", "a MiB")
	put(t, cli, "/names/a", "short")
	ch := etcd.Follow(t.Context(), cli, etcd.Prefix{Name: "/names/"}, etcd.Prefix{Name: "/code/", KeysOnly: true})
	for _, e := range next(t, ch).Events {
		if want := map[string]string{"/names/a": "short", "/code/a": ""}[e.Key]; string(e.Value) != want || e.Revision == 0 {
			t.Errorf("listed %s = %q at %d, want %q", e.Key, e.Value, e.Revision, want)
		}
	}
	put(t, cli, "/code/b", "another")
	if e := next(t, ch).Events[0]; string(e.Value) != "another" {
		t.Errorf("a change came without its value: %+v", e)
	}
}
