package modules

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// followed are the keys that a builder goes by.
var followed = []etcd.Prefix{
	{Name: cluster.FunctionsPrefix, KeysOnly: true}, // all code together would fill the memory
	{Name: cluster.AppliedPrefix},
	{Name: cluster.ModulesPrefix},
	{Name: cluster.ModulePolicyKey, Exact: true},
	{Name: cluster.BuildsPrefix},
	{Name: cluster.SetsPrefix},
}

// function is what a function wants, without its code.
type function struct {
	revision int64
	known    bool              // its value was seen
	valid    bool              // it is a function
	want     map[string]string // its own
	set      string
}

// model is what a builder knows.
type model struct {
	functions map[string]function          // by key
	defaults  map[string]map[string]string // by tenant: what its functions want besides
	list      List
	builds    map[string]cluster.Build // by want
	rebuilt   map[string]int64         // revision of each build's key
	sets      map[string]cluster.Set
	wrong     map[string]string // by key: why what stands there is not taken; the last good one holds
	seen      int64             // etcd's revision up to which the watch has come
	changed   int64             // revision at which the list was changed last
}

func newModel() *model {
	return &model{
		functions: map[string]function{}, defaults: map[string]map[string]string{}, list: List{Packages: map[string]cluster.Allow{}},
		builds: map[string]cluster.Build{}, rebuilt: map[string]int64{}, sets: map[string]cluster.Set{}, wrong: map[string]string{},
	}
}

// take brings the model up to a batch.
func (m *model) take(b etcd.Batch) {
	if b.Snapshot {
		m.forget(b)
	}
	for _, e := range b.Events {
		m.see(e, b.Snapshot)
	}
	m.seen = b.Revision
}

// forget drops what is not in a snapshot. What the list said of a package that a
// snapshot has in a form that can't be read stays.
func (m *model) forget(b etcd.Batch) {
	there := map[string]bool{}
	for _, e := range b.Events {
		there[e.Key] = true
	}
	maps.DeleteFunc(m.functions, func(key string, _ function) bool { return !there[key] })
	maps.DeleteFunc(m.defaults, func(t string, _ map[string]string) bool { return !there[cluster.AppliedKey(t)] })
	maps.DeleteFunc(m.list.Packages, func(p string, _ cluster.Allow) bool {
		gone := !there[cluster.ModuleKey(p)]
		if gone {
			m.changed = b.Revision
		}
		return gone
	})
	maps.DeleteFunc(m.builds, func(w string, _ cluster.Build) bool { return !there[cluster.BuildKey(w)] })
	maps.DeleteFunc(m.sets, func(s string, _ cluster.Set) bool { return !there[cluster.SetKey(s)] })
	maps.DeleteFunc(m.wrong, func(key, _ string) bool { return !there[key] })
	if !there[cluster.ModulePolicyKey] {
		m.list.Policy = cluster.ModulePolicy{}
	}
}

// see takes one event.
func (m *model) see(e etcd.Event, listed bool) {
	key := e.Key
	switch {
	case key == cluster.ModulePolicyKey:
		m.seePolicy(e)
	case strings.HasPrefix(key, cluster.FunctionsPrefix):
		m.seeFunction(e, listed)
	case strings.HasPrefix(key, cluster.AppliedPrefix):
		tenant := strings.TrimPrefix(key, cluster.AppliedPrefix)
		delete(m.defaults, tenant)
		if spec, problems := cluster.DecodeSpec(tenant, e.Value); !e.Deleted && cluster.Invalid(problems) == nil && len(spec.Modules) > 0 {
			m.defaults[tenant] = spec.Modules
		}
	case strings.HasPrefix(key, cluster.ModulesPrefix):
		m.seePackage(strings.TrimPrefix(key, cluster.ModulesPrefix), e)
	case strings.HasPrefix(key, cluster.BuildsPrefix):
		want := strings.TrimPrefix(key, cluster.BuildsPrefix)
		record(m.builds, want, e)
		m.rebuilt[want] = e.Revision
	case strings.HasPrefix(key, cluster.SetsPrefix):
		record(m.sets, strings.TrimPrefix(key, cluster.SetsPrefix), e)
	}
}

// record takes a value of our own writing.
func record[T any](into map[string]T, name string, e etcd.Event) {
	var v T
	if e.Deleted || json.Unmarshal(e.Value, &v) != nil {
		delete(into, name)
		return
	}
	into[name] = v
}

func (m *model) seePolicy(e etcd.Event) {
	p, problems := cluster.ModulePolicy{}, []cluster.Problem(nil)
	if !e.Deleted {
		p, problems = cluster.DecodeModulePolicy(e.Value)
	}
	if m.good(e.Key, cluster.Invalid(problems)) {
		m.list.Policy, m.changed = p, max(m.changed, e.Revision)
	}
}

// seePackage takes what the operator says of a package. Of what can't be read
// nothing is taken, and what was said before holds.
func (m *model) seePackage(pkg string, e etcd.Event) {
	if e.Deleted {
		delete(m.wrong, e.Key)
		delete(m.list.Packages, pkg)
		m.changed = max(m.changed, e.Revision)
		return
	}
	a, err := ReadAllow(pkg, e.Value)
	if m.good(e.Key, err) {
		m.list.Packages[pkg], m.changed = a, max(m.changed, e.Revision)
	}
}

// ReadAllow reads the value of a package's key, ranges and all.
func ReadAllow(pkg string, data []byte) (cluster.Allow, error) {
	a, problems := cluster.DecodeAllow(pkg, data)
	if err := cluster.Invalid(problems); err != nil {
		return a, err
	}
	for _, text := range slices.Concat(a.Allow, a.Deny) {
		if _, err := ParseRange(text); err != nil {
			return a, err
		}
	}
	return a, nil
}

// good notes whether a key's value can be taken.
func (m *model) good(key string, err error) bool {
	delete(m.wrong, key)
	if err != nil {
		m.wrong[key] = err.Error()
	}
	return err == nil
}

func (m *model) seeFunction(e etcd.Event, listed bool) {
	if e.Deleted {
		delete(m.functions, e.Key)
		return
	}
	if listed {
		if m.functions[e.Key].revision != e.Revision {
			m.functions[e.Key] = function{revision: e.Revision}
		}
		return
	}
	m.read(e.Key, e.Value, e.Revision)
}

// read takes a function's value.
func (m *model) read(key string, value []byte, revision int64) {
	f := function{revision: revision, known: true}
	if names, ok := cluster.SplitKey(key, cluster.FunctionsPrefix, 2); ok {
		decoded, problems := cluster.DecodeFunction(names[1], value)
		if f.valid = cluster.Invalid(problems) == nil; f.valid && decoded.Modules != nil {
			f.want, f.set = decoded.Modules.Want, decoded.Modules.Set
		}
	}
	m.functions[key] = f
}

// unread are the functions whose values were not seen.
func (m *model) unread() (keys []string) {
	for _, key := range slices.Sorted(maps.Keys(m.functions)) {
		if !m.functions[key].known {
			keys = append(keys, key)
		}
	}
	return keys
}

// wants is all that a function may require: its own wants, and of its tenant's
// those for other packages.
func (m *model) wants(key string) map[string]string {
	f := m.functions[key]
	names, ok := cluster.SplitKey(key, cluster.FunctionsPrefix, 2)
	if !f.valid || !ok {
		return nil
	}
	return Wants(m.defaults[names[0]], f.want)
}

// Wants joins what a tenant's functions want by default and what one wants itself.
func Wants(defaults, own map[string]string) map[string]string {
	all := map[string]string{}
	maps.Copy(all, defaults)
	maps.Copy(all, own)
	return all
}
