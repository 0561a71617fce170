package etcd_test

import (
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/internal/etcd"
	"bulkhead/internal/etcd/etcdtest"
)

func TestPresenceLivesWithItsOwner(t *testing.T) {
	t.Parallel()
	_, cli := etcdtest.New(t)
	p := etcd.NewPresence(cli, time.Second, "/hosts/h1")
	p.Set("/hosts/h1", []byte("up"))
	p.Set("/hosts/h2", []byte("up"))
	p.Remove("/hosts/h2")
	if err := p.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	ch := etcd.Watch(t.Context(), cli, "/hosts/")
	if b := next(t, ch); text(b.Events) != "/hosts/h1=up" {
		t.Fatalf("set: %s", text(b.Events))
	}
	// A lease that etcd has dropped is replaced, and the keys with it.
	leases, err := cli.Leases(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range leases.Leases {
		cli.Revoke(t.Context(), l.ID)
	}
	if b := next(t, ch); text(b.Events) != "-/hosts/h1" {
		t.Fatalf("revoked: %s", text(b.Events))
	}
	if b := next(t, ch); text(b.Events) != "/hosts/h1=up" {
		t.Fatalf("after the revocation: %s", text(b.Events))
	}
	// Closed without withdrawing, the key stays until the lease runs out, or a
	// successor takes it over.
	p.Close()
	successor := etcd.NewPresence(cli, time.Second, "/hosts/h1")
	successor.Set("/hosts/h1", []byte("up again"))
	if b := next(t, ch); text(b.Events) != "/hosts/h1=up again" {
		t.Fatalf("taken over: %s", text(b.Events))
	}
	if err := successor.Withdraw(t.Context()); err != nil {
		t.Fatal(err)
	}
	if b := next(t, ch); text(b.Events) != "-/hosts/h1" {
		t.Fatalf("withdrawn: %s", text(b.Events))
	}
}

func TestPresenceOutlivesEtcd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := etcdtest.Start(t, dir, etcdtest.AnyPort)
	cli := etcdtest.Client(t, s.Endpoints()...)
	p := etcd.NewPresence(cli, time.Second, "/hosts/h1")
	defer p.Close()
	p.Set("/hosts/h1", []byte("1"))
	if err := p.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	// An etcd without memory of us comes back on the same address.
	url := s.Endpoints()[0]
	s.Close()
	p.Set("/hosts/h1", []byte("2")) // never waits
	etcdtest.Start(t, t.TempDir(), url)
	if err := p.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	r, err := cli.Get(t.Context(), "/hosts/h1", clientv3.WithLimit(1))
	if err != nil || len(r.Kvs) != 1 || string(r.Kvs[0].Value) != "2" || r.Kvs[0].Lease == 0 {
		t.Fatalf("%v, %v", r, err)
	}
}
