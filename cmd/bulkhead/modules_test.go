package main

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/cluster"
	"bulkhead/internal/etcd/etcdtest"
	"bulkhead/modules"
	"bulkhead/modules/modulestest"
)

// shop is an etcd with a tenant, a registry and a builder, and nobody who places.
type shop struct {
	*modulestest.Registry
	t        *testing.T
	cli      *clientv3.Client
	endpoint string
}

func newShop(t *testing.T) *shop {
	t.Helper()
	dir := t.TempDir()
	tools, err := filepath.Abs("../../.cache/tools")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(dir), 0o711); err != nil { // npm's user has to get there
		t.Fatal(err)
	}
	maker := &modules.Maker{State: dir, Tools: tools}
	if err := maker.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	server, cli := etcdtest.New(t)
	s := &shop{modulestest.New(t), t, cli, server.Endpoints()[0]}
	spec := `{"keys":[{"kid":"k","alg":"HS256","secret":"` + strings.Repeat("x", 43) + `"}]}`
	for _, key := range []string{cluster.TenantKey("acme"), cluster.AppliedKey("acme")} {
		if _, err := cli.Put(t.Context(), key, spec); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() {
		ended <- modules.Run(ctx, cli, modules.Options{Name: "h1", Maker: maker, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	return s
}

// says carries out a command, and returns its exit code and all that it says.
func (s *shop) says(args ...string) (int, string) {
	var out bytes.Buffer
	code := run(s.t.Context(), append([]string{"--endpoints", s.endpoint}, args...), stdio{strings.NewReader(""), &out, &out})
	return code, out.String()
}

// must hold the output of a command to what it has to say.
func (s *shop) must(code int, says []string, args ...string) {
	s.t.Helper()
	got, out := s.says(args...)
	if got != code {
		s.t.Errorf("%s: exit code %d, want %d\n%s", strings.Join(args, " "), got, code, out)
	}
	for _, want := range says {
		if !strings.Contains(out, want) {
			s.t.Errorf("%s: says\n%s\nwant %q", strings.Join(args, " "), out, want)
		}
	}
}

func TestModulesFromTheListToFunctionsAndBack(t *testing.T) {
	s := newShop(t)
	s.Publish("inner", "1.0.0", nil, nil)
	s.Publish("outer", "1.0.0", map[string]any{"dependencies": map[string]string{"inner": "^1"}}, nil)
	dir := t.TempDir()
	file := filepath.Join(dir, "api.js")
	for name, text := range map[string]string{"api.js": `require('inner@1.0.0')`, "package.json": `{"dependencies": {"outer": "^1"}}`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	deploy := []string{"function", "deploy", "acme", "api", file, "--timeout", "10ms"}
	s.must(exitLate, []string{"inner is not on the list", "bulkhead modules allow inner@1.0.0"}, deploy...)
	if s.Was("inner") || s.Was("outer") {
		t.Errorf("the registry was asked for %v", s.Asked())
	}
	s.must(exitOK, []string{"inner: allowed: 1.x"}, "modules", "allow", "inner@1.x")
	s.must(exitOK, []string{"outer: allowed: * (looked at)"}, "modules", "allow", "outer", "--reason", "looked at")
	s.must(exitLate, []string{"modules: building", "is written, but not live within 10ms: no scheduler"}, deploy...)
	s.must(exitOK, []string{"available", "inner@1.0.0 outer@^1"}, "modules", "builds")
	s.must(exitOK, []string{"acme", "wanted itself", "1.0.0", "outer"}, "modules", "why", "inner")
	s.must(exitNotFound, []string{"there is no build"}, "modules", "builds", "zz")

	// Nobody places, so only that it is not built again can be seen.
	s.must(exitLate, []string{"no scheduler"}, deploy...)

	s.must(exitOK, []string{"denied: <1.0.1", "still runs inner@1.0.0, denied by <1.0.1: function api of tenant acme"}, "modules", "deny", "inner@<1.0.1")
	s.must(exitOK, []string{"still runs inner@1.0.0"}, "modules", "list")
	s.must(exitLate, []string{"inner@1.0.0 is denied (<1.0.1)"}, "function", "deploy", "acme", "other", file)
	s.Publish("inner", "1.0.1", nil, nil)
	s.must(exitOK, []string{"acme/api", "stays: its code requires inner@1.0.0"}, "modules", "upgrade", "inner@1.0.1")
	s.must(exitInvalid, []string{"is denied itself (<1.0.1)"}, "modules", "upgrade", "inner@1.0.0")

	if err := os.WriteFile(file, []byte("// nothing by itself"), 0o644); err != nil {
		t.Fatal(err)
	}
	s.must(exitLate, []string{"no scheduler"}, deploy...)
	s.Publish("outer", "1.2.0", map[string]any{"dependencies": map[string]string{"inner": "^1"}}, nil)
	s.must(exitOK, []string{"acme/api", "is built anew", "built anew: 1 sets; their functions have them"}, "modules", "upgrade", "outer@1.2.0")
	s.must(exitOK, []string{"1.2.0"}, "modules", "why", "outer")
	s.must(exitOK, []string{"is built anew", "acme/api has 1.2.0 still: whatever wants it there, or the list, excludes 1.9.0"}, "modules", "upgrade", "outer@1.9.0")
	s.must(exitOK, []string{"outer is off the list"}, "modules", "rm", "outer")
	s.must(exitNotFound, nil, "modules", "rm", "outer")
	s.must(exitInvalid, []string{"is no range of versions"}, "modules", "allow", "outer@latest")
	s.must(exitUsage, []string{"deny needs a range"}, "modules", "deny", "outer")
	s.must(exitOK, []string{"have to be on the list themselves"}, "modules", "policy", "--listed")
}
