package scheduler

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
	"bulkhead/internal/etcd/etcdtest"
)

// world follows everything in a real etcd and waits for it to look right.
type world struct {
	t    *testing.T
	cli  *clientv3.Client
	ch   <-chan etcd.Batch
	keys map[string]string
}

func newWorld(t *testing.T, cli *clientv3.Client) *world {
	return &world{t, cli, etcd.Watch(t.Context(), cli, cluster.Root), map[string]string{}}
}

// until waits for events until ok; never by sleeping.
func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	late := time.After(60 * time.Second)
	for !ok() {
		select {
		case b := <-w.ch:
			if b.Snapshot {
				clear(w.keys)
			}
			for _, e := range b.Events {
				w.keys[e.Key] = string(e.Value)
				if e.Deleted {
					delete(w.keys, e.Key)
				}
			}
		case <-late:
			for k, v := range w.keys {
				w.t.Logf("%s = %.300s", k, v)
			}
			w.t.Fatalf("after a minute: not %s", what)
		}
	}
}

func (w *world) count(prefix string) (n int) {
	for k := range w.keys {
		if strings.HasPrefix(k, prefix) {
			n++
		}
	}
	return n
}

func (w *world) put(key, value string) {
	w.t.Helper()
	if _, err := w.cli.Put(context.Background(), key, value); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) del(key string, o ...clientv3.OpOption) {
	w.t.Helper()
	if _, err := w.cli.Delete(context.Background(), key, o...); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) status(tenant string) (s cluster.Status) {
	_ = json.Unmarshal([]byte(w.keys[cluster.TenantStatusKey(tenant)]), &s)
	return s
}

func (w *world) placement(host, instance string) (p cluster.Placement) {
	_ = json.Unmarshal([]byte(w.keys[cluster.PlacementKey(host, instance)]), &p)
	return p
}

func marshal(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(data)
}

// run starts a scheduler and returns what stops it and waits.
func run(t *testing.T, cli *clientv3.Client, name string, led func(bool)) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := Run(ctx, cli, Options{Name: name, Grace: 2 * time.Second, Lease: 2 * time.Second, Tick: 200 * time.Millisecond, Led: led}); err != nil {
			t.Error(err)
		}
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

func TestFromPutToPlacement(t *testing.T) {
	t.Parallel()
	_, cli := etcdtest.New(t)
	w := newWorld(t, cli)
	run(t, cli, "s1", nil)
	w.put(cluster.TenantKey("acme"), specJSON(""))
	w.until("a status that says why it waits", func() bool { return w.status("acme").Phase == cluster.PhaseWaiting })
	t.Log(w.status("acme").Reasons)
	w.put(cluster.HostKey("h1"), marshal(testHost("h1", "")))
	w.until("placed", func() bool { return w.status("acme").Phase == cluster.PhasePlaced })
	p := w.placement("h1", "acme.0")
	if p.Image != "sha256:one" || len(p.Keys) != 1 || p.Reason == "" || w.count(cluster.HostUnits("h1")) != 4 {
		t.Fatalf("placement %+v, %d units", p, w.count(cluster.HostUnits("h1")))
	}
	w.put(cluster.TenantKey("acme"), `{"keys": [`)
	w.until("invalid", func() bool { return w.status("acme").Phase == cluster.PhaseInvalid })
	if s := w.status("acme"); s.Applied >= s.Observed || !strings.Contains(s.Error, "line 1:11") || w.count(cluster.HostPlacements("h1")) != 1 {
		t.Fatalf("after a truncated spec: %+v", s)
	}
	w.put(cluster.TenantKey("acme"), specJSON(`"resources":{"memory":"256MiB"}`))
	w.until("grown in place", func() bool { return w.placement("h1", "acme.0").Resources.Memory == 256*cluster.MiB })
	// A unit that someone removes comes back.
	w.del(cluster.UnitKey("h1", "bulkhead-acme-0.service"))
	w.until("the unit gone", func() bool { return w.count(cluster.HostUnits("h1")) == 3 })
	w.until("the unit back", func() bool { return w.count(cluster.HostUnits("h1")) == 4 })
	w.del(cluster.TenantKey("acme"))
	w.until("all of it gone", func() bool { return len(w.keys)-w.count(cluster.AuditPrefix) == 2 }) // host, leader
}

func specJSON(more string) string {
	if more != "" {
		more = "," + more
	}
	if !strings.Contains(more, `"sleep"`) {
		more += `,"sleep":{"dormant":"0s"}`
	}
	return fmt.Sprintf(`{"keys":[{"kid":"k","alg":"HS256","secret":"0123456789abcdef0123456789abcdef"}]%s}`, more)
}

func testHost(name, zone string) cluster.Host {
	h := cluster.Host{
		Name: name, Capacity: cluster.Resources{Memory: 2 * cluster.GiB, CPU: 4, Pids: 1000},
		Image: "sha256:one", Init: "systemd",
		Paths: cluster.Paths{Run: "/run/bulkhead", State: "/var/lib/bulkhead", Runner: "/usr/lib/bulkhead/bulkhead-runner"},
	}
	if zone != "" {
		h.Labels = map[string]string{"zone": zone}
	}
	return h
}

// placed says whether the statuses of all say "placed".
func (w *world) placed(tenants ...string) func() bool {
	return func() bool {
		for _, t := range tenants {
			if w.status(t).Phase != cluster.PhasePlaced {
				return false
			}
		}
		return true
	}
}

func TestAnotherTakesOver(t *testing.T) {
	t.Parallel()
	s, cli := etcdtest.New(t)
	w := newWorld(t, cli)
	leads := make(chan string, 10)
	led := func(name string) func(bool) {
		return func(on bool) {
			if on {
				leads <- name
			}
		}
	}
	// The first has a client of its own, so that it can be cut off.
	lost := etcdtest.Client(t, s.Endpoints()...)
	run(t, lost, "s1", led("s1"))
	if got := <-leads; got != "s1" {
		t.Fatal(got)
	}
	stop := run(t, cli, "s2", led("s2"))
	w.put(cluster.HostKey("h1"), marshal(testHost("h1", "")))
	w.put(cluster.TenantKey("acme"), specJSON(""))
	w.until("placed by the first", w.placed("acme"))
	lost.Close() // it can neither write nor resign: its lease must run out
	w.put(cluster.TenantKey("bob"), specJSON(""))
	if got := <-leads; got != "s2" {
		t.Fatal(got)
	}
	w.until("placed by the second", w.placed("bob", "acme"))
	if p := w.placement("h1", "acme.0"); p.Tenant != "acme" {
		t.Fatal("the change of leader moved acme")
	}
	// One that stops in peace hands over at once, much faster than its lease.
	run(t, cli, "s3", led("s3"))
	w.until("a candidate waits", func() bool { return w.count(cluster.ElectionPrefix) == 2 })
	began := time.Now()
	stop()
	<-leads
	if d := time.Since(began); d > time.Second {
		t.Errorf("handing over took %s", d)
	}
}

func TestDeposedLeaderWritesNothing(t *testing.T) {
	t.Parallel()
	_, cli := etcdtest.New(t)
	w := newWorld(t, cli)
	leads := make(chan bool, 10)
	run(t, cli, "s1", func(on bool) { leads <- on })
	<-leads
	w.put(cluster.HostKey("h1"), marshal(testHost("h1", "")))
	// Someone removes its election key; its session knows nothing of that.
	w.del(cluster.ElectionPrefix, clientv3.WithPrefix())
	w.put(cluster.TenantKey("acme"), specJSON(""))
	if <-leads {
		t.Fatal("it still leads")
	}
	<-leads
	w.until("placed after another election", w.placed("acme"))
}

func TestThroughRestartAndCompaction(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := etcdtest.Start(t, dir, etcdtest.AnyPort)
	url := s.Endpoints()[0]
	cli := etcdtest.Client(t, url)
	w := newWorld(t, cli)
	run(t, cli, "s1", nil)
	w.put(cluster.HostKey("h1"), marshal(testHost("h1", "")))
	w.put(cluster.TenantKey("acme"), specJSON(""))
	w.until("placed", w.placed("acme"))
	p := w.keys[cluster.PlacementKey("h1", "acme.0")]
	s.Close()
	etcdtest.Start(t, dir, url)
	w.put(cluster.TenantKey("bob"), specJSON(""))
	w.until("bob placed after a restart", w.placed("bob"))
	if w.keys[cluster.PlacementKey("h1", "acme.0")] != p {
		t.Error("a restart of etcd changed acme's placement")
	}
	r, err := cli.Get(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cli.Compact(t.Context(), r.Header.Revision); err != nil {
		t.Fatal(err)
	}
	w.put(cluster.TenantKey("carl"), specJSON(""))
	w.until("carl placed after a compaction", w.placed("carl"))
	// More tenants than one transaction holds, in one go.
	var ops []etcd.Op
	names := make([]string, 60)
	for i := range names {
		names[i] = fmt.Sprintf("many%d", i)
		ops = append(ops, etcd.Put(cluster.TenantKey(names[i]), []byte(specJSON(`"resources":{"memory":"64MiB","tmp":"1MiB","cpu":0.05,"pids":32}`))))
	}
	h := testHost("h2", "")
	h.Capacity = cluster.Resources{Memory: 64 * cluster.GiB, CPU: 64, Pids: 32000}
	w.put(cluster.HostKey("h2"), marshal(h))
	if _, err := etcd.Commit(t.Context(), cli, nil, ops); err != nil {
		t.Fatal(err)
	}
	w.until("all of many placed", w.placed(names...))
}

func TestFunctionsReachTheirHosts(t *testing.T) {
	t.Parallel()
	_, cli := etcdtest.New(t)
	w := newWorld(t, cli)
	big := `{"code":"` + strings.Repeat("x", 1<<20) + `"}`
	w.put(cluster.FunctionKey("acme", "big"), big) // before anybody follows it: it must be read
	w.put(cluster.FunctionKey("acme", "hello"), code(1))
	run(t, cli, "s1", nil)
	w.put(cluster.HostKey("h1"), marshal(testHost("h1", "")))
	w.put(cluster.TenantKey("acme"), specJSON(""))
	manifest := func() (m cluster.Manifest) {
		_ = json.Unmarshal([]byte(w.keys[cluster.ManifestKey("h1", "acme")]), &m)
		return m
	}
	w.until("both delivered", func() bool { return len(manifest().Functions) == 2 })
	if len(w.keys[cluster.CopyKey("h1", "acme", "big")]) < len(big) {
		t.Error("the manifest came before the copy")
	}
	r, err := cli.Put(t.Context(), cluster.FunctionKey("acme", "hello"), code(2))
	if err != nil {
		t.Fatal(err)
	}
	w.until("a deployment delivered", func() bool { return manifest().Revision >= r.Header.Revision })
	var c cluster.Copy
	if _ = json.Unmarshal([]byte(w.keys[cluster.CopyKey("h1", "acme", "hello")]), &c); string(c.Function) != code(2) || c.Source != r.Header.Revision {
		t.Errorf("copy %+v", c)
	}
	if w.keys[cluster.RouteKey("h1", "acme.0")] == "" {
		t.Error("no route")
	}
}

func TestLoadCallsForInstances(t *testing.T) {
	t.Parallel()
	_, cli := etcdtest.New(t)
	w := newWorld(t, cli)
	run(t, cli, "s1", nil)
	w.put(cluster.HostKey("h1"), marshal(testHost("h1", "")))
	w.put(cluster.TenantKey("acme"), specJSON(`"replicas":{"max":3,"concurrency":10}`))
	w.until("placed", w.placed("acme"))
	w.put(cluster.LoadKey("h1"), marshal(cluster.Load{Instances: map[string]float64{"acme.0": 90, "globex.0": 50}}))
	w.until("three instances", func() bool { return w.count(cluster.HostPlacements("h1")) == 3 })
	w.until("and the reason", func() bool { return w.status("acme").Wanted == 3 })
	if s := w.status("acme").Scaled; !strings.Contains(s, "3 instances: 90 in flight on average within 6s, 10 each") {
		t.Errorf("it says %q", s)
	}
}
