package proxy

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"bulkhead/cluster"
	"bulkhead/internal/frames/framestest"
)

// fleet is several hosts' proxies, which share what is known: etcd.
type fleet struct {
	t     testing.TB
	ca    *authority
	known known
	hosts map[string]*fleetHost
	hold  time.Duration
}

type fleetHost struct {
	testProxy
	address string // of its listener for other hosts
	stop    func()
	logged  *logBuffer // what the proxy says of itself
}

func newFleet(t testing.TB, hosts ...string) *fleet {
	t.Helper()
	f := &fleet{t: t, ca: newAuthority(t), known: known{}, hosts: map[string]*fleetHost{}, hold: time.Minute}
	for _, name := range hosts {
		ln := listen(t, "127.0.0.1:0")
		f.start(name, Options{Peers: f.ca.peer(name)}, ln)
	}
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return f
}

func listen(t testing.TB, address string) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// start runs a host's proxy, whose listener for other hosts is peers.
func (f *fleet) start(name string, o Options, peers net.Listener) *fleetHost {
	t := f.t
	t.Helper()
	h := &fleetHost{address: peers.Addr().String(), logged: &logBuffer{got: make(chan struct{}, 1000)}}
	h.log = &logBuffer{got: make(chan struct{}, 1000)}
	log := slog.New(slog.NewTextHandler(h.logged, nil))
	h.table = NewTable(name, log)
	o.Host, o.Hold, o.Access, o.Log = name, f.hold, h.log, log
	p, err := New(h.table, o)
	if err != nil {
		t.Fatal(err)
	}
	ln := listen(t, "127.0.0.1:0")
	h.proxy, h.addr, h.url = p, ln.Addr().String(), "http://"+ln.Addr().String()
	done := make(chan error, 2)
	go func() { done <- p.Serve(ln) }()
	go func() { done <- p.ServePeers(peers) }()
	h.stop = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		http.DefaultClient.CloseIdleConnections()
		if err := p.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
	t.Cleanup(func() { h.stop() })
	f.hosts[name] = h
	f.tell()
	return h
}

// tell has all proxies know what is known.
func (f *fleet) tell() {
	for _, h := range f.hosts {
		setKnown(h.table, f.known)
	}
}

// place puts an instance on a host, which answers with serve, and lets change
// what is said of it.
func (f *fleet) place(host, instance string, serve func(*framestest.Exchange), change ...func(*fact)) {
	f.t.Helper()
	socket := "/nowhere/run.sock"
	if serve != nil {
		socket = framestest.Listen(f.t, serve)
	}
	tenant, _, err := cluster.ParseInstance(instance)
	if err != nil {
		f.t.Fatal(err)
	}
	address := "127.0.0.1:1"
	if h := f.hosts[host]; h != nil {
		address = h.address
	}
	p := fact{
		Route:    &cluster.Route{Tenant: tenant, Instance: instance, Host: host, Address: address},
		Instance: &cluster.Instance{Tenant: tenant, Instance: instance, Host: host, Phase: cluster.Ready, Endpoint: socket},
	}
	for _, c := range change {
		c(&p)
	}
	f.known.put(tenant, host+"/"+instance, p)
	f.tell()
}

// placedAt is an instance of acme that serves on a host.
func placedAt(host string, n int) fact {
	name := cluster.InstanceName("acme", n)
	return fact{
		Route:    &cluster.Route{Tenant: "acme", Instance: name, Host: host, Address: host + ":7600"},
		Instance: &cluster.Instance{Tenant: "acme", Instance: name, Host: host, Phase: cluster.Ready, Endpoint: "/x"},
	}
}
