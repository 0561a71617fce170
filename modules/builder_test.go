package modules

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/cluster"
	"bulkhead/internal/audit"
	"bulkhead/internal/etcd"
	"bulkhead/internal/etcd/etcdtest"
	"bulkhead/modules/modulestest"
)

// bench is a builder at work on an etcd and a registry of the test's own.
type bench struct {
	*modulestest.Registry
	t   *testing.T
	cli *clientv3.Client
	m   *Maker
}

func newBench(t *testing.T) *bench {
	m := testMaker(t)
	b := &bench{modulestest.New(t), t, nil, m}
	_, b.cli = etcdtest.New(t)
	b.cli.KV = audit.Claiming(b.cli.KV, cluster.BuilderUser, audit.Claim{})
	return b
}

// start runs a builder until the test ends.
func (b *bench) start() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() {
		ended <- Run(ctx, b.cli, Options{Name: "h1", Maker: b.m, Log: slog.New(slog.NewTextHandler(b.t.Output(), nil))})
	}()
	b.t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			b.t.Error(err)
		}
	})
}

func (b *bench) put(key string, value any) {
	b.t.Helper()
	data, err := json.Marshal(value)
	if err == nil {
		_, err = b.cli.Put(b.t.Context(), key, string(data))
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) deploy(key string, want map[string]string) {
	f := cluster.Function{File: "f.js", Code: "// " + key, Secrets: map[string]string{"A": "b"}}
	if want != nil {
		f.Modules = &cluster.FunctionModules{Want: want}
	}
	b.put(cluster.FunctionsPrefix+key, f)
}

// until waits for a state of the keys below /bulkhead/.
func (b *bench) until(what string, done func(all map[string]etcd.Event) bool) map[string]etcd.Event {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 2*time.Minute)
	defer cancel()
	all := map[string]etcd.Event{}
	for batch := range etcd.Watch(ctx, b.cli, cluster.Root) {
		for _, e := range batch.Events {
			if all[e.Key] = e; e.Deleted {
				delete(all, e.Key)
			}
		}
		if done(all) {
			return all
		}
	}
	b.t.Fatalf("never: %s", what)
	return nil
}

func functionOf(all map[string]etcd.Event, key string) (f cluster.Function) {
	f, _ = cluster.DecodeFunction("f", all[cluster.FunctionsPrefix+key].Value)
	if f.Modules == nil {
		f.Modules = &cluster.FunctionModules{}
	}
	return f
}

func buildOf(all map[string]etcd.Event, want map[string]string) (b cluster.Build) {
	_ = json.Unmarshal(all[cluster.BuildKey(cluster.WantID(want))].Value, &b)
	return b
}

func TestFunctionsGetTheirSets(t *testing.T) {
	b := newBench(t)
	b.Publish("left", "1.0.0", nil, nil)
	b.Publish("right", "1.0.0", nil, nil)
	b.put(cluster.ModuleKey("left"), cluster.Allow{Allow: []string{"*"}})
	b.put(cluster.ModuleKey("right"), cluster.Allow{Allow: []string{"*"}})
	left := map[string]string{"left": "^1"}
	b.deploy("acme/a", left)
	b.deploy("acme/plain", nil)
	b.start()
	b.deploy("globex/b", left)
	all := b.until("both have the set", func(all map[string]etcd.Event) bool {
		return functionOf(all, "acme/a").Modules.Set != "" && functionOf(all, "globex/b").Modules.Set != ""
	})
	f := functionOf(all, "acme/a")
	if set := f.Modules.Set; set != functionOf(all, "globex/b").Modules.Set || all[cluster.SetKey(set)].Key == "" || f.Secrets["A"] != "b" || f.Code != "// acme/a" {
		t.Errorf("functions: %+v", f)
	}
	if builds := len(keysUnder(all, cluster.BuildsPrefix)); builds != 1 {
		t.Errorf("%d builds of one want", builds)
	}
	if build := buildOf(all, left); build.State != cluster.BuildAvailable || build.By != "h1" || !strings.Contains(build.Log, "fetching 1 packages") {
		t.Errorf("the build is %+v", build)
	}
	if len(keysUnder(all, cluster.ClaimsPrefix)) != 1 {
		t.Error("the builder does not say who writes")
	}

	// What a tenant's functions have by default comes under their own wants.
	b.put(cluster.AppliedKey("acme"), map[string]any{"keys": []any{map[string]string{"kid": "k", "alg": "HS256", "secret": strings.Repeat("x", 43)}}, "modules": map[string]string{"right": "1", "left": "0"}})
	all = b.until("the tenant's functions have its defaults", func(all map[string]etcd.Event) bool {
		return functionOf(all, "acme/plain").Modules.Set != "" || buildOf(all, map[string]string{"right": "1", "left": "0"}).State == cluster.BuildFailed
	})
	if build := buildOf(all, map[string]string{"right": "1", "left": "0"}); !strings.Contains(build.Error, "no version of left is both wanted (0) and allowed (*)") {
		t.Errorf("the build is %+v", build)
	}
	b.until("one with a want of its own has both", func(all map[string]etcd.Event) bool {
		build := buildOf(all, map[string]string{"right": "1", "left": "^1"})
		return build.Set != "" && functionOf(all, "acme/a").Modules.Set == build.Set
	})
}

func TestADenyEntryStopsNewDeploysAndNoOld(t *testing.T) {
	b := newBench(t)
	b.Publish("left", "1.0.0", nil, nil)
	left := map[string]string{"left": "^1"}
	b.deploy("acme/early", left)
	b.start()
	b.until("what is not on the list is refused", func(all map[string]etcd.Event) bool {
		return strings.Contains(buildOf(all, left).Error, "left is not on the list")
	})
	b.put(cluster.ModuleKey("left"), cluster.Allow{Allow: []string{"*"}})
	all := b.until("it is allowed and built", func(all map[string]etcd.Event) bool { return functionOf(all, "acme/early").Modules.Set != "" })
	set := functionOf(all, "acme/early").Modules.Set

	b.put(cluster.ModuleKey("left"), cluster.Allow{Allow: []string{"*"}, Deny: []string{"1.0.0"}, Reason: "it leaks"})
	b.until("what was built is refused", func(all map[string]etcd.Event) bool {
		return strings.Contains(buildOf(all, left).Error, "left@1.0.0 is denied (1.0.0: it leaks)")
	})
	b.deploy("acme/late", left)
	all = b.until("it is tried again, and fails", func(all map[string]etcd.Event) bool {
		build := buildOf(all, left)
		return build.State == cluster.BuildFailed && all[cluster.BuildKey(cluster.WantID(left))].Revision > all[cluster.FunctionsPrefix+"acme/late"].Revision
	})
	if functionOf(all, "acme/early").Modules.Set != set || functionOf(all, "acme/late").Modules.Set != "" {
		t.Error("the early one should keep its set and the late one have none")
	}

	// A list that can't be read changes nothing; a version that is allowed serves both.
	b.put(cluster.ModuleKey("left"), map[string]any{"allow": "*"})
	b.Publish("left", "1.0.1", nil, nil)
	b.put(cluster.ModuleKey("right"), cluster.Allow{Allow: []string{"*"}})
	all = b.until("both have the new version", func(all map[string]etcd.Event) bool {
		late := functionOf(all, "acme/late").Modules.Set
		return late != "" && late == functionOf(all, "acme/early").Modules.Set
	})
	var s cluster.Set
	_ = json.Unmarshal(all[cluster.SetKey(functionOf(all, "acme/late").Modules.Set)].Value, &s)
	if len(s.Packages) != 1 || s.Packages[0].Version != "1.0.1" {
		t.Errorf("the set is %+v", s)
	}
}

func TestWhoBuildsNextTakesOverWhatWasUnderWay(t *testing.T) {
	b := newBench(t)
	b.Publish("left", "1.0.0", nil, nil)
	left := map[string]string{"left": "^1"}
	b.put(cluster.ModuleKey("left"), cluster.Allow{Allow: []string{"*"}})
	b.put(cluster.BuildKey(cluster.WantID(left)), cluster.Build{Want: left, State: cluster.BuildRunning, By: "gone"})
	b.deploy("acme/f", left)
	b.start()
	all := b.until("it has the set", func(all map[string]etcd.Event) bool { return functionOf(all, "acme/f").Modules.Set != "" })
	if build := buildOf(all, left); build.By != "h1" {
		t.Errorf("the build is %+v", build)
	}
}

func keysUnder(all map[string]etcd.Event, prefix string) (keys []string) {
	for key := range all {
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	return keys
}
