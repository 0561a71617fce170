// Package tree holds the tree to its rules: who may import whom.
package tree

import (
	"os/exec"
	"strings"
	"testing"
)

// rules name what a package and those below it may not import, directly or
// through others.
var rules = []struct{ pkg, never, why string }{
	{"bulkhead/cluster", "bulkhead/", "cluster is imported by all and imports none of ours"},
	{"bulkhead/scheduler", "bulkhead/agent", "scheduler and agent meet only in etcd"},
	{"bulkhead/agent", "bulkhead/scheduler", "scheduler and agent meet only in etcd"},
	{"bulkhead/modules", "bulkhead/agent", "a builder and agents meet only in etcd"},
	{"bulkhead/modules", "bulkhead/scheduler", "a builder and schedulers meet only in etcd"},
	{"bulkhead/agent", "bulkhead/modules", "hosts' agents name no sets: they are not trusted to"},
	{"bulkhead/scheduler", "bulkhead/modules", "a builder and schedulers meet only in etcd"},
	{"bulkhead/runner", "go.etcd.io/", "a runner knows no etcd"},
	{"bulkhead/runner", "github.com/docker/", "a runner knows no Docker"},
	{"bulkhead/cmd/bulkhead-runner", "go.etcd.io/", "a runner knows no etcd"},
	{"bulkhead/cmd/bulkhead-runner", "net/http", "a runner speaks no HTTP"},
	{"bulkhead/cmd/bulkhead-cell", "bulkhead/runner", "the cell is inside, the runner outside"},
	{"bulkhead/cmd/bulkhead-cell", "net/http", "the cell speaks no HTTP"},
	{"bulkhead/proxy", "bulkhead/runner", "the proxy holds no secret and checks no token"},
	{"bulkhead/butane", "bulkhead/agent", "a host is made without knowing what its daemons do"},
	{"bulkhead/butane", "go.etcd.io/", "what a host is made from is decided without a cluster"},
	{"bulkhead/units", "bulkhead/internal/", "units are rendered by pure functions"},
	{"bulkhead/internal/", "bulkhead/agent", "plumbing knows nothing of what stands on it"},
	{"bulkhead/internal/", "bulkhead/scheduler", "plumbing knows nothing of what stands on it"},
	{"bulkhead/internal/", "bulkhead/modules", "plumbing knows nothing of what stands on it"},
	{"bulkhead/internal/", "bulkhead/proxy", "plumbing knows nothing of what stands on it"},
}

func TestImportsGoOneWay(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Deps " "}}`, "bulkhead/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	used := map[int]bool{}
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		for i, r := range rules {
			if !below(words[0], r.pkg) {
				continue
			}
			used[i] = true
			for _, dep := range words[1:] {
				if below(dep, r.never) && !below(dep, r.pkg) {
					t.Errorf("%s imports %s: %s", words[0], dep, r.why)
				}
			}
		}
	}
	for i, r := range rules {
		if !used[i] {
			t.Errorf("there is no package %s any more: mend the rule", r.pkg)
		}
	}
}

// below reports whether path is prefix or a package below it.
func below(path, prefix string) bool {
	return path == prefix || strings.HasPrefix(path, strings.TrimSuffix(prefix, "/")+"/")
}
