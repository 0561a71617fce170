package etcd_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/internal/etcd"
	"bulkhead/internal/etcd/etcdtest"
)

func TestEmbedServesOnAUnixSocketToo(t *testing.T) {
	dir, err := os.MkdirTemp("", "bh") // t.TempDir's paths may be too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "client.sock")
	s, err := etcd.Embed(t.TempDir(), etcdtest.AnyPort, etcdtest.AnyPort, etcd.Socket{Path: socket, Prefixes: []string{"/routes/", "/instances/"}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if len(s.Endpoints()) != 1 {
		t.Errorf("endpoints for everybody: %v, want one", s.Endpoints())
	}
	cli, err := etcd.Open(etcd.Config{Endpoints: []string{"unix://" + socket}})
	if err != nil {
		t.Fatal(err)
	}
	defer cli.Close()
	if _, err := cli.Get(t.Context(), "/routes/a"); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm()&0o022 != 0 {
		t.Errorf("others may connect: %v, %v", info.Mode(), err)
	}
}

func TestReadersSeeTheirPrefixAndNothingElse(t *testing.T) {
	dir, err := os.MkdirTemp("", "bh")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "client.sock")
	s, err := etcd.Embed(t.TempDir(), etcdtest.AnyPort, etcdtest.AnyPort, etcd.Socket{Path: socket, Prefixes: []string{"/routes/", "/instances/"}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	reader, err := etcd.Open(etcd.Config{Endpoints: []string{"unix://" + socket}})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	owner, err := etcd.Open(etcd.Config{Endpoints: s.Endpoints()})
	if err != nil {
		t.Fatal(err)
	}
	defer owner.Close()
	for _, key := range []string{"/routes/a", "/instances/a", "/secret"} {
		if _, err := owner.Put(t.Context(), key, "1"); err != nil {
			t.Fatal(err)
		}
	}
	batches := etcd.Watch(t.Context(), reader, "/routes/", "/instances/")
	if b := <-batches; !b.Snapshot || len(b.Events) != 2 || b.Events[0].Key != "/routes/a" || b.Events[1].Key != "/instances/a" {
		t.Fatalf("the reader's snapshot is %+v", b)
	}
	if _, err := owner.Put(t.Context(), "/routes/b", "2"); err != nil {
		t.Fatal(err)
	}
	if b := <-batches; len(b.Events) != 1 || b.Events[0].Key != "/routes/b" {
		t.Fatalf("the reader's change is %+v", b)
	}
	for what, try := range map[string]func() error{
		"another key":        func() error { _, err := reader.Get(t.Context(), "/secret"); return err },
		"all keys":           func() error { _, err := reader.Get(t.Context(), "", clientv3.WithPrefix()); return err },
		"from the prefix on": func() error { _, err := reader.Get(t.Context(), "/routes/", clientv3.WithFromKey()); return err },
		"past the prefix": func() error {
			_, err := reader.Get(t.Context(), "/routes/", clientv3.WithRange("/secreta"))
			return err
		},
		"from one prefix into the other": func() error {
			_, err := reader.Get(t.Context(), "/instances/", clientv3.WithRange("/routes/b"))
			return err
		},
		"a put":                  func() error { _, err := reader.Put(t.Context(), "/routes/c", "3"); return err },
		"a delete":               func() error { _, err := reader.Delete(t.Context(), "/routes/a"); return err },
		"a transaction":          func() error { _, err := reader.Txn(t.Context()).Then(clientv3.OpGet("/secret")).Commit(); return err },
		"a lease":                func() error { _, err := reader.Grant(t.Context(), 10); return err },
		"the members":            func() error { _, err := reader.MemberList(t.Context()); return err },
		"a watch on another key": func() error { r := <-reader.Watch(t.Context(), "/secret"); return r.Err() },
		"a snapshot of everything": func() error {
			r, err := reader.Snapshot(t.Context())
			if err == nil {
				_, err = r.Read(make([]byte, 1))
			}
			return err
		},
	} {
		if err := try(); err == nil || !strings.Contains(err.Error(), "over this socket") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
