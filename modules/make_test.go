package modules

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead/cluster"
	"bulkhead/modules/modulestest"
)

// testCache has what tests fetch: once, and where npm's user can read it.
func testCache(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../.cache/tools")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func testTools(t *testing.T) tools {
	t.Helper()
	tools, err := openTools(t.Context(), testCache(t))
	if err != nil {
		t.Fatal(err)
	}
	return tools
}

// testMaker makes sets in a directory of the test's own, without Docker.
func testMaker(t *testing.T) *Maker {
	t.Helper()
	testTools(t)
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o711); err != nil { // npm's user has to get there
		t.Fatal(err)
	}
	return &Maker{State: dir, Tools: testCache(t)}
}

func build1(t *testing.T, m *Maker, l List, want map[string]string) (made, *tail, error) {
	t.Helper()
	var log tail
	got, err := m.make(t.Context(), l, want, &log, func(string) {})
	return got, &log, err
}

// contents reads a set's archive, and holds it to its name.
func contents(t *testing.T, m *Maker, set string) map[string]string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(ArchivesDir(m.State), set+".tar"))
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != set {
		t.Errorf("set %s has another digest", set)
	}
	files := map[string]string{}
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeDir || h.Uid != 0 || h.Gid != 0 || h.Mode != 0o644 && h.Mode != 0o755 || h.ModTime.Unix() != 0 {
			t.Errorf("the archive has %+v", h)
		}
		text, _ := io.ReadAll(r)
		files[h.Name] = string(text)
	}
}

func TestASetIsMade(t *testing.T) {
	m := testMaker(t)
	r := modulestest.New(t)
	r.Publish("left", "1.0.0", map[string]any{"dependencies": map[string]string{"right": "^1"}}, map[string]string{"bin/x": "#!/bin/sh\n"})
	r.Publish("left", "1.1.0", map[string]any{"dependencies": map[string]string{"right": "^1"}, "bin": map[string]string{"x": "bin/x"}}, map[string]string{"bin/x": "#!/bin/sh\n"})
	r.Publish("right", "1.0.0", nil, nil)
	r.Publish("@my/own", "2.0.0", nil, nil)
	l := List{Packages: map[string]cluster.Allow{"left": {Allow: []string{"^1"}}, "@my/own": {Allow: []string{"*"}}}}
	want := map[string]string{"left": "^1.0.0", "left@1.0.0": "1.0.0", "@my/own": "2.x"}
	got, log, err := build1(t, m, l, want)
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	files := contents(t, m, got.name)
	for name, text := range map[string]string{
		"node_modules/left/index.js": "left@1.1.0", "node_modules/left--1.0.0/index.js": "left@1.0.0", "node_modules/right/index.js": "right@1.0.0",
		"node_modules/@my/own/index.js": "@my/own@2.0.0", "package-lock.json": "lockfileVersion",
	} {
		if !strings.Contains(files[name], text) {
			t.Errorf("%s is %q", name, files[name])
		}
	}
	for name, text := range files {
		if strings.Contains(name, "/.") || strings.Contains(text, "127.0.0.1") {
			t.Errorf("the archive has %s", name)
		}
	}
	if len(got.set.Packages) != 4 || got.set.Packages[2].Name != "left" || got.set.Packages[2].Path != "node_modules/left--1.0.0" || got.set.Node == "" {
		t.Errorf("the set is %+v", got.set)
	}
	again, _, err := build1(t, m, l, want)
	if err != nil || again.name != got.name {
		t.Errorf("built again it is %s (%v), was %s", again.name, err, got.name)
	}
	if left, _ := filepath.Glob(filepath.Join(m.State, "builder", "build-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestWhatIsNotAllowedIsRefused(t *testing.T) {
	m := testMaker(t)
	r := modulestest.New(t)
	r.Publish("good", "1.0.0", nil, nil)
	r.Publish("good", "2.0.0", nil, nil)
	r.Publish("needs", "1.0.0", map[string]any{"dependencies": map[string]string{"good": "^1", "inner": "^1"}}, nil)
	r.Publish("inner", "1.0.0", nil, nil)
	r.Publish("runs", "1.0.0", map[string]any{"scripts": map[string]string{"install": "touch /tmp/bulkhead-ran"}}, nil)
	r.Publish("needsrun", "1.0.0", map[string]any{"dependencies": map[string]string{"runs": "^1"}}, nil)
	r.Publish("evil", "1.0.0", nil, nil)
	r.Publish("asksgit", "1.0.0", map[string]any{"dependencies": map[string]string{"x": "git+ssh://git@127.0.0.1:1/x.git"}}, nil)
	r.Publish("asksurl", "1.0.0", map[string]any{"dependencies": map[string]string{"x": r.URL + "/evil/-/1.0.0.tgz"}}, nil)
	r.Publish("bad", "1.0.0", nil, nil)
	r.Tamper("bad", "1.0.0")
	any := cluster.Allow{Allow: []string{"*"}}
	all := map[string]cluster.Allow{
		"good": {Allow: []string{"^1"}, Deny: []string{"1.0.1"}, Reason: "known"}, "needs": any, "runs": any, "needsrun": any, "asksinner": any, "bad": any, "asksgit": any, "asksurl": any, "gone": any,
		"inner": {Deny: []string{"<1.0.1"}, Reason: "it leaks"},
	}
	for _, c := range []struct {
		name    string
		want    map[string]string
		listed  bool
		says    string
		refused bool
		never   string // what the registry must not have been asked for
	}{
		{"a package outside of the list", map[string]string{"good": "1", "evil": "^1"}, false, "evil is not on the list of packages that functions may have: bulkhead modules allow evil@^1", true, "evil"},
		{"an internal name that the list lacks", map[string]string{"@corp/secret-project": "*"}, false, "@corp/secret-project is not on the list", true, "@corp"},
		{"a range that the list does not cover", map[string]string{"good": "^2"}, false, "no version of good is both wanted (^2) and allowed (^1): want another range, or bulkhead modules allow good@^2", true, ""},
		{"an exact version outside", map[string]string{"good@2.0.0": "2.0.0"}, false, "good@2.0.0 is outside of what is allowed (^1)", true, ""},
		{"another package under the name", map[string]string{"good": "npm:evil@1.0.0"}, false, "is no range of versions", true, "evil"},
		{"a repository", map[string]string{"good": "git+ssh://git@127.0.0.1:1/x.git"}, false, "is no range of versions", true, ""},
		{"a denied version", map[string]string{"good@1.0.1": "1.0.1"}, false, "good@1.0.1 is denied (1.0.1: known): want another version", true, ""},
		{"a denied package that another depends on", map[string]string{"needs": "1"}, false, "inner@1.0.0 is denied (<1.0.1: it leaks): want another version of it (needs depends on it)", true, "inner/-/"},
		{"an install script", map[string]string{"runs": "1"}, false, "runs@1.0.0 has an install script, and may not run it: bulkhead modules allow runs@^1.0.0 --scripts", true, "runs/-/"},
		{"an install script further down", map[string]string{"needsrun": "1"}, false, "runs@1.0.0 has an install script", true, "runs/-/"},
		{"one that is not listed, where all have to be", map[string]string{"needsrun": "1"}, true, "runs@1.0.0 has an install script", true, "runs/-/"},
		{"a tampered tarball", map[string]string{"bad": "1"}, false, "a tarball is not what the registry's own digest says", false, ""},
		{"a dependency in a repository", map[string]string{"asksgit": "1"}, false, "comes from a URL, a repository or a directory", true, ""},
		{"a dependency at a URL", map[string]string{"asksurl": "1"}, false, "comes from a URL, a repository or a directory", true, "evil/-/"},
		{"one that the registry lacks", map[string]string{"gone": "1"}, false, "the registry has no such package", false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, log, err := build1(t, m, List{Policy: cluster.ModulePolicy{Listed: c.listed}, Packages: all}, c.want)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("got %v\nwant %s\n%s", err, c.says, log)
			}
			if strings.Contains(err.Error(), "\n") || errors.Is(err, ErrRefused) != c.refused {
				t.Errorf("the error is %q, refused %v", err, errors.Is(err, ErrRefused))
			}
			if c.never != "" && r.Was(c.never) {
				t.Errorf("the registry was asked for %s: %v", c.never, r.Asked())
			}
		})
	}
	if _, err := os.Stat("/tmp/bulkhead-ran"); err == nil {
		t.Error("an install script ran")
	}
	if sets, _ := filepath.Glob(filepath.Join(ArchivesDir(m.State), "*.tar")); len(sets) > 0 {
		t.Errorf("sets were made: %v", sets)
	}
}
