package scheduler

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

func (f *fixture) manifest(host, tenant string) (m cluster.Manifest) {
	_ = json.Unmarshal([]byte(f.keys[cluster.ManifestKey(host, tenant)]), &m)
	return m
}

// delivered checks that a host has a tenant's functions: all valid ones as
// they are now, and no others but last good ones.
func (f *fixture) delivered(host, tenant string) {
	f.t.Helper()
	m := f.manifest(host, tenant)
	if m.Functions == nil {
		f.t.Errorf("%s has no manifest of %s", host, tenant)
	}
	for key, value := range f.keys {
		n, ok := cluster.SplitKey(key, cluster.TenantFunctions(tenant), 1)
		if !ok {
			continue
		}
		_, problems := cluster.DecodeFunction(n[0], []byte(value))
		if cluster.Invalid(problems) != nil {
			continue
		}
		var c cluster.Copy
		_ = json.Unmarshal([]byte(f.keys[cluster.CopyKey(host, tenant, n[0])]), &c)
		if at := f.modified[key]; m.Functions[n[0]] != at || c.Source != at || string(c.Function) != value {
			f.t.Errorf("%s of %s is of %d; on %s the manifest says %d and the copy is of %d: %.80s", n[0], tenant, at, host, m.Functions[n[0]], c.Source, c.Function)
		}
	}
	for key := range f.keys {
		if n, ok := cluster.SplitKey(key, cluster.HostCopies(host)+tenant+"/", 1); ok && (m.Functions[n[0]] == 0 || f.keys[cluster.FunctionKey(tenant, n[0])] == "") {
			f.t.Errorf("%s is a copy of nothing", key)
		}
	}
}

func code(n int) string { return fmt.Sprintf(`{"code":"module.exports = %d"}`, n) }

func (f *fixture) none(what string) {
	f.t.Helper()
	if w := f.wrote(); len(w) > 0 {
		f.t.Errorf("%s: wrote %q", what, w)
	}
}

func TestDelivery(t *testing.T) {
	f := newFixture(t)
	f.host(testHost("h1", ""))
	f.put(cluster.FunctionKey("acme", "early"), code(1))
	f.settle()
	f.none("a function of nobody yet")
	f.tenant("acme", "")
	f.tenant("bob", "")
	f.settle()
	f.delivered("h1", "acme")
	f.delivered("h1", "bob")
	f.wrote()
	f.put(cluster.FunctionKey("acme", "hello"), code(2))
	deployed, read := f.revision, f.reads
	f.settle()
	f.delivered("h1", "acme")
	f.is("a deployment writes", fmt.Sprint(f.wrote()), "[copies/h1/acme/hello manifests/h1/acme]")
	if m := f.manifest("h1", "acme"); m.Revision < deployed || f.reads != read {
		t.Errorf("manifest %+v, after %d reads more: the watch had brought the value of %d", m, f.reads-read, deployed)
	}
	f.relist()
	f.settle()
	f.none("after a relist")
	f.model = newSnapshot()
	f.relist()
	f.settle()
	f.none("after a change of leader")
	f.is("functions read for that", fmt.Sprint(f.reads-read), "0")
	f.host(testHost("h2", ""))
	f.tenant("acme", `"replicas":{"min":2}`)
	f.settle()
	f.delivered("h2", "acme")
	f.is("functions read for another host", fmt.Sprint(f.reads-read), "2")
	f.del(cluster.FunctionKey("acme", "hello"))
	f.settle()
	f.is("removed", f.keys[cluster.CopyKey("h2", "acme", "hello")], "")
	f.delivered("h1", "acme")
	f.delivered("h2", "acme")
	f.ready()
	f.tenant("acme", "")
	f.settle()
	f.wait(leaveFor)
	for key := range f.keys {
		if strings.HasPrefix(key, cluster.HostCopies("h2")) || strings.HasPrefix(key, cluster.HostManifests("h2")) {
			t.Errorf("left on h2: %s", key)
		}
	}
	for _, fn := range f.model.tenants["acme"].functions {
		if fn.value != nil {
			t.Error("code is kept in memory")
		}
	}
	f.del(cluster.TenantKey("acme"), cluster.AppliedKey("acme"), cluster.FunctionKey("acme", "early"))
	f.settle()
	for key := range f.keys {
		if strings.Contains(key, "acme") && !strings.HasPrefix(key, cluster.InstancesPrefix) {
			t.Errorf("left after a purge: %s", key)
		}
	}
}

func TestInvalidFunctionStaysBehind(t *testing.T) {
	f := newFixture(t)
	f.host(testHost("h1", ""))
	f.tenant("acme", "")
	f.put(cluster.FunctionKey("acme", "hello"), code(1))
	f.settle()
	good := f.keys[cluster.CopyKey("h1", "acme", "hello")]
	f.put(cluster.FunctionKey("acme", "hello"), `{"cod":"x"}`)
	f.put(cluster.FunctionKey("acme", "new"), ``)
	f.settle()
	warned := func(what string) {
		t.Helper()
		f.is("the last good copy "+what, f.keys[cluster.CopyKey("h1", "acme", "hello")], good)
		f.is("one that never was good "+what, f.keys[cluster.CopyKey("h1", "acme", "new")], "")
		if w := fmt.Sprint(f.status("acme").Warnings); !strings.Contains(w, "function hello is not valid") || !strings.Contains(w, "function new is not valid") {
			t.Errorf("warnings %s: %s", what, w)
		}
	}
	warned("now")
	f.wrote()
	f.model = newSnapshot()
	f.relist()
	f.settle()
	warned("after a change of leader")
	f.none("after a change of leader")
	before := f.manifest("h1", "acme").Revision
	f.del(cluster.FunctionKey("acme", "new"))
	f.settle()
	if m := f.manifest("h1", "acme"); m.Revision <= before {
		t.Error("whoever removed it waits in vain: the manifest is as of before")
	}
	f.put(cluster.FunctionKey("acme", "hello"), code(2))
	f.settle()
	f.delivered("h1", "acme")
	f.is("warnings", fmt.Sprint(f.status("acme").Warnings), "[]")
}

func TestManyAndLargeFunctions(t *testing.T) {
	f := newFixture(t)
	f.host(testHost("h1", ""))
	f.host(testHost("h2", ""))
	for i := range 150 {
		f.put(cluster.FunctionKey("many", fmt.Sprintf("f%d", i)), code(i))
	}
	for i := range 3 {
		f.put(cluster.FunctionKey("large", fmt.Sprintf("f%d", i)), `{"code":"`+strings.Repeat("x", 1<<20)+`"}`)
	}
	f.tenant("many", `"replicas":{"min":2}`)
	f.tenant("large", "")
	f.settle() // which checks that each group fits a transaction
	f.delivered("h1", "many")
	f.delivered("h2", "many")
	f.delivered(strings.Split(f.where("large"), "@")[1], "large")
	f.wrote()
	f.model = newSnapshot()
	f.relist()
	f.settle()
	f.none("after a change of leader")
	var keys []string
	for i := range 149 {
		keys = append(keys, cluster.FunctionKey("many", fmt.Sprintf("f%d", i)))
	}
	f.del(keys...)
	f.settle()
	f.delivered("h1", "many")
	f.del(cluster.TenantKey("many"), cluster.AppliedKey("many"))
	f.settle()
	f.is("left", f.keys[cluster.ManifestKey("h1", "many")]+f.keys[cluster.CopyKey("h2", "many", "f149")], "")
}

func TestLeaderDiesBetweenCopiesAndManifest(t *testing.T) {
	f := newFixture(t)
	f.host(testHost("h1", ""))
	f.tenant("acme", "")
	f.put(cluster.FunctionKey("acme", "hello"), code(1))
	f.settle()
	// Its successor finds a copy that no manifest vouches for.
	f.put(cluster.FunctionKey("acme", "hello"), code(2))
	f.put(cluster.CopyKey("h1", "acme", "hello"), `{"source":999,"function":{"code":"evil"}}`)
	f.model = newSnapshot()
	f.relist()
	f.settle()
	f.delivered("h1", "acme")
	// Foreign hands.
	f.put(cluster.CopyKey("h1", "acme", "hello"), `{"source":999,"function":{"code":"evil"}}`)
	f.settle()
	f.delivered("h1", "acme")
	f.del(cluster.CopyKey("h1", "acme", "hello"))
	f.settle()
	f.delivered("h1", "acme")
	f.del(cluster.ManifestKey("h1", "acme"))
	f.settle()
	f.delivered("h1", "acme")
	f.put(cluster.ManifestKey("h1", "acme"), "broken")
	f.settle()
	f.delivered("h1", "acme")
	f.put(cluster.CopyKey("h1", "ghost", "x"), "y")
	f.put(cluster.ManifestKey("h1", "ghost"), "y")
	f.settle()
	f.is("of nobody", f.keys[cluster.CopyKey("h1", "ghost", "x")]+f.keys[cluster.ManifestKey("h1", "ghost")], "")
}

func TestAValueThatHasChangedSinceIsWaitedFor(t *testing.T) {
	f := newFixture(t)
	key := cluster.FunctionKey("acme", "hello")
	f.put(key, code(1))
	f.model = newSnapshot()
	f.relist() // of the function it knows the key alone
	f.host(testHost("h1", ""))
	f.tenant("acme", "")
	f.apply(f.planned()...)
	if want := f.model.unread[key]; want.revision != f.modified[key] {
		t.Fatalf("it wants to read %+v", f.model.unread)
	}
	f.model.loaded(key, []byte(code(2)), f.modified[key]+100) // someone was faster
	f.model.again()
	f.settle()
	if f.reads > 0 || f.keys[cluster.ManifestKey("h1", "acme")] != "" || f.keys[cluster.CopyKey("h1", "acme", "hello")] != "" {
		t.Error("it read again, or delivered what it had not planned for")
	}
	f.put(key, code(2))
	f.settle()
	f.delivered("h1", "acme")
}

// planned are the writes of one plan.
func (f *fixture) planned() (ops []etcd.Op) {
	for _, group := range f.model.plan(f.now, grace, atOnce) {
		ops = append(ops, group...)
	}
	return ops
}
