// Package etcdtest runs real etcd servers inside tests.
package etcdtest

import (
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/internal/etcd"
)

// AnyPort is a URL on loopback with a port of the system's choosing.
const AnyPort = "http://127.0.0.1:0"

// New starts an etcd in a temporary directory and a client of it; both end
// with the test.
func New(t testing.TB) (*etcd.Server, *clientv3.Client) {
	t.Helper()
	s := Start(t, t.TempDir(), AnyPort)
	return s, Client(t, s.Endpoints()...)
}

// Start starts an etcd in dir on a client URL; it ends with the test at the
// latest.
func Start(t testing.TB, dir, clientURL string) *etcd.Server {
	t.Helper()
	s, err := etcd.Embed(dir, clientURL, AnyPort)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// Client opens a client; it ends with the test at the latest.
func Client(t testing.TB, endpoints ...string) *clientv3.Client {
	t.Helper()
	cli, err := etcd.Open(etcd.Config{Endpoints: endpoints})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cli.Close() })
	return cli
}
