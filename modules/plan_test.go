package modules

import (
	"encoding/json"
	"testing"
	"time"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// TestWhatFailedIsTriedAgain goes by revisions alone, so that a builder that
// begins anew decides as the one before would have.
func TestWhatFailedIsTriedAgain(t *testing.T) {
	want := map[string]string{"left": "^1"}
	for _, c := range []struct {
		sentence             string
		seen, function, list int64
		set                  string
		again                bool
	}{
		{"nothing has changed since", 10, 5, 6, "", false},
		{"somebody deploys", 10, 11, 6, "", true},
		{"the list changes", 10, 5, 11, "", true},
		{"a function is written that has a set", 10, 11, 6, "s", false},
	} {
		m := newModel()
		put := func(key string, value any, revision int64) {
			data, _ := json.Marshal(value)
			m.take(etcd.Batch{Revision: revision, Events: []etcd.Event{{Key: key, Value: data, Revision: revision}}})
		}
		f := cluster.Function{File: "f.js", Code: "1", Modules: &cluster.FunctionModules{Want: want}}
		if c.set != "" {
			f.Modules.Set = cluster.WantID(want) + cluster.WantID(want) // as long as one
		}
		put(cluster.FunctionKey("acme", "f"), f, c.function)
		put(cluster.ModuleKey("left"), cluster.Allow{Allow: []string{"*"}}, c.list)
		put(cluster.BuildKey(cluster.WantID(want)), cluster.Build{Want: want, State: cluster.BuildFailed, Seen: c.seen}, 12)
		changes := m.plan(time.Unix(0, 0))
		if again := len(changes) == 1 && changes[0].record.State == cluster.BuildQueued; again != c.again {
			t.Errorf("%s: %v", c.sentence, changes)
		}
	}
}
