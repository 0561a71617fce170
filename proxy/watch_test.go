package proxy

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
	"bulkhead/internal/etcd/etcdtest"
	"bulkhead/internal/frames/framestest"
)

// follow has the proxy's table follow etcd until stop is called.
func follow(t *testing.T, p testProxy, cli *clientv3.Client, file string) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.table.Follow(ctx, cli, file, slog.New(slog.DiscardHandler))
	}()
	return func() { cancel(); <-done }
}

// until asks until the answer has a status, each time the table has changed.
func until(t *testing.T, p testProxy, status int) {
	t.Helper()
	for {
		p.table.mu.Lock()
		changed := p.table.changed
		p.table.mu.Unlock()
		resp, err := http.DefaultClient.Do(newRequest(t, "GET", p.url+"/acme/x", nil))
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode == status {
			return
		}
		select {
		case <-changed:
		case <-t.Context().Done():
			t.Fatalf("got %d, never %d", resp.StatusCode, status)
		}
	}
}

func TestTableFollowsRoutesAndInstancesAndOutlivesEtcd(t *testing.T) {
	dir, err := os.MkdirTemp("", "bh") // t.TempDir's paths may be too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "client.sock")
	server, err := etcd.Embed(t.TempDir(), etcdtest.AnyPort, etcdtest.AnyPort, etcd.Socket{Path: socket, Prefixes: []string{cluster.RoutesPrefix, cluster.InstancesPrefix}})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	writer, err := etcd.Open(etcd.Config{Endpoints: server.Endpoints()})
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	reader, err := etcd.Open(etcd.Config{Endpoints: []string{"unix://" + socket}})
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	put := func(key string, v any) {
		t.Helper()
		value, _ := json.Marshal(v)
		if _, err := writer.Put(t.Context(), key, string(value)); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(key string) {
		t.Helper()
		if _, err := writer.Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}

	file := filepath.Join(t.TempDir(), "routes.json")
	p := start(t, nil)
	p.proxy.opts.Hold = 0
	stop := follow(t, p, reader, file)
	until(t, p, 404)
	in := ready(framestest.Listen(t, says("ok")))
	put(cluster.InstanceKey("h1", "acme.0"), in)
	until(t, p, 404) // not placed
	put(cluster.RouteKey("h1", "acme.0"), cluster.Route{Tenant: "acme", Instance: "acme.0", Host: "h1"})
	until(t, p, 200)
	remove(cluster.InstanceKey("h1", "acme.0")) // its lease is lost
	put(cluster.RouteKey("h1", "marker.0"), cluster.Route{Tenant: "marker", Instance: "marker.0", Host: "h1"})
	for !p.table.Has("marker") {
		p.table.mu.Lock()
		changed := p.table.changed
		p.table.mu.Unlock()
		if !p.table.Has("marker") {
			<-changed
		}
	}
	until(t, p, 200)
	stop()
	server.Close()

	again := start(t, nil)
	again.proxy.opts.Hold = 0
	stop = follow(t, again, reader, file) // etcd is gone
	until(t, again, 200)
	stop()
}

func TestTableForgetsWhatItsRouteNamesNoMore(t *testing.T) {
	p := start(t, nil)
	in := ready(framestest.Listen(t, says("ok")))
	set(p.table, in)
	until(t, p, 200)
	set(p.table)
	until(t, p, 404)
}
