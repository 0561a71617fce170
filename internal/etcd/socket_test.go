package etcd_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

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
	s, err := etcd.Embed(t.TempDir(), etcdtest.AnyPort, etcdtest.AnyPort, socket)
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
	if err := etcd.Reach(t.Context(), cli, 10*time.Second); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm()&0o022 != 0 {
		t.Errorf("others may connect: %v, %v", info.Mode(), err)
	}
}
