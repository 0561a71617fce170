package scheduler

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// fixture is a cluster in memory: keys with revisions, a model that follows
// them as a watch would, and a clock that a test moves.
type fixture struct {
	t        testing.TB
	keys     map[string]string
	created  map[string]int64
	modified map[string]int64
	revision int64
	now      time.Time
	model    *snapshot
	writes   []etcd.Op // since the last call of wrote
	reads    int       // functions read by themselves
}

const grace = 30 * time.Second

func newFixture(t testing.TB) *fixture {
	return &fixture{t: t, keys: map[string]string{}, created: map[string]int64{}, modified: map[string]int64{}, now: time.Date(2026, 11, 22, 13, 0, 0, 0, time.UTC), model: newSnapshot()}
}

// apply makes writes as one transaction, and the model sees them.
func (f *fixture) apply(ops ...etcd.Op) {
	f.revision++
	b := etcd.Batch{Revision: f.revision}
	for _, op := range ops {
		_, there := f.keys[op.Key]
		switch {
		case op.Check:
			if f.modified[op.Key] != op.Revision || there != (op.Revision > 0) {
				f.t.Fatalf("%s is at revision %d, and was to be at %d", op.Key, f.modified[op.Key], op.Revision)
			}
			continue
		case !op.Delete:
			if !there {
				f.created[op.Key] = f.revision
			}
			f.keys[op.Key], f.modified[op.Key] = string(op.Value), f.revision
		case there:
			delete(f.keys, op.Key)
			delete(f.modified, op.Key)
		default:
			continue
		}
		b.Events = append(b.Events, etcd.Event{Key: op.Key, Value: op.Value, Revision: f.revision, Created: f.created[op.Key], Deleted: op.Delete})
	}
	f.model = f.model.apply(b, f.now)
}

func (f *fixture) put(key string, value any) {
	text, ok := value.(string)
	if !ok {
		text = marshal(value)
	}
	f.apply(etcd.Put(key, []byte(text)))
}

func (f *fixture) del(keys ...string) {
	var ops []etcd.Op
	for _, key := range keys {
		ops = append(ops, etcd.Delete(key))
	}
	f.apply(ops...)
}

// relist gives the model a fresh list, as after a compaction.
func (f *fixture) relist() {
	b := etcd.Batch{Snapshot: true, Revision: f.revision}
	for _, key := range slices.Sorted(maps.Keys(f.keys)) {
		e := etcd.Event{Key: key, Value: []byte(f.keys[key]), Revision: f.modified[key], Created: f.created[key]}
		if strings.HasPrefix(key, cluster.FunctionsPrefix) || strings.HasPrefix(key, cluster.CopiesPrefix) {
			e.Value = nil // as they are followed
		}
		b.Events = append(b.Events, e)
	}
	f.model = f.model.apply(b, f.now)
}

// settle plans and writes until nothing is left to do, which must be soon.
func (f *fixture) settle() {
	f.t.Helper()
	f.model.tick(f.now, grace)
	for round := 0; f.model.work(); round++ {
		if round == 20 {
			writes := f.wrote()
			f.t.Fatalf("planning does not come to rest: it goes on with %q, after %q", sorted(f.model.dirty), writes[max(0, len(writes)-30):])
		}
		groups := f.model.plan(f.now, grace, atOnce)
		written := map[string]bool{}
		for _, group := range groups {
			if !etcd.Fits(group) {
				f.t.Fatalf("a group of %d writes, with %s, does not fit a transaction", len(group), group[0].Key)
			}
			for _, op := range group {
				if op.Check {
					continue
				}
				if written[op.Key] {
					f.t.Fatalf("two groups write %s", op.Key)
				}
				written[op.Key] = true
			}
			f.writes = append(f.writes, group...)
			f.apply(group...)
		}
		f.read()
	}
}

// read gives the model the functions that it lacks.
func (f *fixture) read() {
	for key := range f.model.unread {
		f.reads++
		f.model.loaded(key, []byte(f.keys[key]), f.modified[key])
	}
	f.model.again()
}

// wait moves the clock.
func (f *fixture) wait(d time.Duration) {
	f.t.Helper()
	f.now = f.now.Add(d)
	f.settle()
}

// wrote returns the keys written since the last call, with a dash for those
// deleted.
func (f *fixture) wrote() []string {
	var keys []string
	for _, op := range f.writes {
		if op.Check {
			continue
		}
		key := strings.TrimPrefix(op.Key, cluster.Root)
		if op.Delete {
			key = "-" + key
		}
		keys = append(keys, key)
	}
	f.writes = nil
	slices.Sort(keys)
	return keys
}

func (f *fixture) host(h cluster.Host) { f.put(cluster.HostKey(h.Name), h) }

func (f *fixture) tenant(name, more string) { f.put(cluster.TenantKey(name), specJSON(more)) }

// ready has the agents report every placement as ready, and lets those go
// that then leave.
func (f *fixture) ready() {
	f.t.Helper()
	f.allServe()
	f.wait(leaveFor)
}

// allServe has the agents report every placement as ready.
func (f *fixture) allServe() {
	f.t.Helper()
	for _, key := range slices.Sorted(maps.Keys(f.keys)) {
		if n, ok := cluster.SplitKey(key, cluster.PlacementsPrefix, 2); ok && f.keys[cluster.HostKey(n[0])] != "" {
			tenant, _, _ := cluster.ParseInstance(n[1])
			f.put(cluster.InstanceKey(n[0], n[1]), cluster.Instance{Tenant: tenant, Instance: n[1], Host: n[0], Phase: cluster.Ready, Placement: f.modified[key]})
		}
	}
	f.settle()
}

// serve has an agent report one instance as ready.
func (f *fixture) serve(host, instance string) {
	f.t.Helper()
	tenant, _, _ := cluster.ParseInstance(instance)
	f.put(cluster.InstanceKey(host, instance), cluster.Instance{Tenant: tenant, Instance: instance, Host: host, Phase: cluster.Ready, Placement: f.modified[cluster.PlacementKey(host, instance)]})
	f.settle()
}

// lose takes a host's presence away, and with it all its agent reported.
func (f *fixture) lose(host string) {
	keys := []string{cluster.HostKey(host), cluster.LoadKey(host)}
	for key := range f.keys {
		if strings.HasPrefix(key, cluster.InstancesPrefix+host+"/") {
			keys = append(keys, key)
		}
	}
	f.del(keys...)
}

// where returns a tenant's placements as "acme.0@h1 acme.1@h2".
func (f *fixture) where(tenant string) string {
	var all []string
	for key := range f.keys {
		if n, ok := cluster.SplitKey(key, cluster.PlacementsPrefix, 2); ok && strings.HasPrefix(n[1], tenant+".") {
			all = append(all, n[1]+"@"+n[0])
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func (f *fixture) status(tenant string) (s cluster.Status) {
	_ = json.Unmarshal([]byte(f.keys[cluster.TenantStatusKey(tenant)]), &s)
	return s
}

func (f *fixture) placement(host, instance string) (p cluster.Placement) {
	_ = json.Unmarshal([]byte(f.keys[cluster.PlacementKey(host, instance)]), &p)
	return p
}

func (f *fixture) is(what, got, want string) {
	f.t.Helper()
	if got != want {
		f.t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func (f *fixture) says(tenant, want string) {
	f.t.Helper()
	s := f.status(tenant)
	if text := fmt.Sprint(s.Phase, " ", s.Error, " ", s.Reasons); !strings.Contains(text, want) {
		f.t.Errorf("status of %s does not say %q:\n%s", tenant, want, text)
	}
}
