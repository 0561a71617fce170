package scheduler

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
	"bulkhead/internal/etcd/etcdtest"
)

// BenchmarkPipeline places tenants through a real etcd that syncs to disk:
// from their specs being there to the last placement being read back by a
// watch.
func BenchmarkPipeline(b *testing.B) {
	const tenants, hosts = 10_000, 500
	for b.Loop() {
		b.StopTimer()
		_, cli := etcdtest.New(b)
		var groups [][]etcd.Op
		for i := range hosts {
			h := testHost(fmt.Sprintf("h%03d", i), "")
			h.Capacity = cluster.Resources{Memory: 8 * cluster.GiB, CPU: 32, Pids: 8192}
			groups = append(groups, []etcd.Op{etcd.Put(cluster.HostKey(h.Name), []byte(marshal(h)))})
		}
		for i := range tenants {
			groups = append(groups, []etcd.Op{etcd.Put(cluster.TenantKey(fmt.Sprintf("t%d", i)), []byte(specJSON("")))})
		}
		if _, err := etcd.Commit(b.Context(), cli, nil, groups...); err != nil {
			b.Fatal(err)
		}
		placements := etcd.Watch(b.Context(), cli, cluster.PlacementsPrefix)
		<-placements
		b.StartTimer()
		began := time.Now()
		stop := quiet(b, cli)
		for seen := 0; seen < tenants; {
			seen += len((<-placements).Events)
		}
		b.ReportMetric(tenants/time.Since(began).Seconds(), "placements/s")
		b.StopTimer()
		stop()
		b.StartTimer()
	}
}

// BenchmarkPutToPlacement is one tenant's way from etcdctl put to its host's
// watch, in an otherwise idle cluster.
func BenchmarkPutToPlacement(b *testing.B) {
	_, cli := etcdtest.New(b)
	h := testHost("h1", "")
	h.Capacity = cluster.Resources{Memory: 1024 * cluster.GiB, CPU: 10_000, Pids: 1 << 30}
	if _, err := cli.Put(b.Context(), cluster.HostKey("h1"), marshal(h)); err != nil {
		b.Fatal(err)
	}
	defer quiet(b, cli)()
	host := etcd.Watch(b.Context(), cli, cluster.HostPlacements("h1"), cluster.HostUnits("h1"))
	<-host
	for i := 0; b.Loop(); i++ {
		if _, err := cli.Put(b.Context(), cluster.TenantKey(fmt.Sprintf("t%d", i)), specJSON("")); err != nil {
			b.Fatal(err)
		}
		<-host
	}
}

// quiet starts a quiet scheduler and returns what stops it and waits.
func quiet(b *testing.B, cli *clientv3.Client) (stop func()) {
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = Run(ctx, cli, Options{Name: "s1", Log: slog.New(slog.DiscardHandler)})
	}()
	return func() { cancel(); <-done }
}

// BenchmarkDeploy is a function's way from its key to the copy that its host
// watches.
func BenchmarkDeploy(b *testing.B) {
	_, cli := etcdtest.New(b)
	if _, err := cli.Put(b.Context(), cluster.HostKey("h1"), marshal(testHost("h1", ""))); err != nil {
		b.Fatal(err)
	}
	if _, err := cli.Put(b.Context(), cluster.TenantKey("acme"), specJSON("")); err != nil {
		b.Fatal(err)
	}
	defer quiet(b, cli)()
	host := etcd.Watch(b.Context(), cli, cluster.HostManifests("h1"), cluster.HostCopies("h1"))
	for batch := range host {
		if len(batch.Events) > 0 { // the first manifest, of no functions
			break
		}
	}
	for i := 0; b.Loop(); i++ {
		if _, err := cli.Put(b.Context(), cluster.FunctionKey("acme", "hello"), code(i)); err != nil {
			b.Fatal(err)
		}
		<-host
	}
}
