package modules

import (
	"encoding/json"
	"maps"
	"testing"

	"bulkhead/cluster"
)

func TestWantsAreFoundInCode(t *testing.T) {
	found := InCode(`
const a = require('lodash@4.17.21'), b = require("@scope/name@1.0.0-rc.1/sub/path")
import c from 'chalk@5.3.0'
import 'side@0.0.1'
const d = await import("zod@3.22.4")
require('lodash'); require('./x@1.2.3'); require("express@^4"); mail('someone@1.2.3')
`)
	want := map[string]string{"lodash@4.17.21": "4.17.21", "@scope/name@1.0.0-rc.1": "1.0.0-rc.1", "chalk@5.3.0": "5.3.0", "side@0.0.1": "0.0.1", "zod@3.22.4": "3.22.4"}
	if !maps.Equal(found, want) {
		t.Errorf("found %v\nwant %v", found, want)
	}
}

func TestWantsAreReadFromFiles(t *testing.T) {
	if found, err := InMeta(map[string]string{MetaWants: `{"lodash": "4.x"}`}); err != nil || found["lodash"] != "4.x" {
		t.Errorf("metadata: %v, %v", found, err)
	}
	if _, err := InMeta(map[string]string{MetaWants: `lodash`}); err == nil {
		t.Error("metadata that is no JSON is taken")
	}
	if found, err := InPackageJSON([]byte(`{"dependencies": {"a": "1"}, "devDependencies": {"b": "1"}}`)); err != nil || !maps.Equal(found, map[string]string{"a": "1"}) {
		t.Errorf("package.json: %v, %v", found, err)
	}
	if found, err := InSpecs([]string{"a@^1", "@b/c", "d@1 - 2"}); err != nil || !maps.Equal(found, map[string]string{"a": "^1", "@b/c": "*", "d": "1 - 2"}) {
		t.Errorf("flags: %v, %v", found, err)
	}
	for _, bad := range []string{"a@latest", "a@", "A B", "a@npm:b@1.0.0", "../x"} {
		if found, err := InSpecs([]string{bad}); err == nil {
			t.Errorf("%s is taken: %v", bad, found)
		}
	}
}

// shelf is a lock with a way of three, and a package at two versions.
const shelf = `{"lockfileVersion": 3, "packages": {
	"": {"dependencies": {"express": "^4", "ms": "^2"}},
	"node_modules/express": {"version": "4.18.0", "integrity": "sha512-a", "dependencies": {"debug": "2"}},
	"node_modules/debug": {"version": "2.6.9", "integrity": "sha512-b", "dependencies": {"ms": "0.7"}},
	"node_modules/debug/node_modules/ms": {"version": "0.7.0", "integrity": "sha512-c"},
	"node_modules/ms": {"version": "2.1.3", "integrity": "sha512-d"},
	"node_modules/mac-only": {"version": "1.0.0", "integrity": "sha512-e", "optional": true, "os": ["darwin"], "hasInstallScript": true}
}}`

func TestWhoHasAPackageAndByWhichWay(t *testing.T) {
	all, err := packages([]byte(shelf), here)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 4 {
		t.Errorf("packages: %+v", all)
	}
	functions := map[string]cluster.Function{
		"acme/a": {Modules: &cluster.FunctionModules{Want: map[string]string{"express": "^4", "ms": "^2"}, Set: "s"}},
		"acme/b": {Modules: &cluster.FunctionModules{Want: map[string]string{"ms": "2.1.3"}, Set: "s2"}},
		"acme/c": {},
	}
	sets := map[string]cluster.Set{"s": {Packages: all}, "s2": {Packages: []cluster.Package{{Path: "node_modules/ms", Name: "ms", Version: "2.1.3"}}}}
	list := List{Packages: map[string]cluster.Allow{"ms": {Allow: []string{"*"}, Deny: []string{"<1"}}}}
	holders := Holders("ms", functions, sets, list)
	got, _ := json.Marshal(holders)
	want := `[{"tenant":"acme","function":"a","set":"s","version":"0.7.0","path":"node_modules/debug/node_modules/ms","way":"express \u003e debug","denied":"\u003c1"},` +
		`{"tenant":"acme","function":"a","set":"s","version":"2.1.3","path":"node_modules/ms","way":""},{"tenant":"acme","function":"b","set":"s2","version":"2.1.3","path":"node_modules/ms","way":""}]`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	upgrades := Upgrades("ms", "2.1.4", functions, nil, sets, List{})
	if len(upgrades) != 2 || upgrades[0].Stays != "" || upgrades[1].Stays != "it wants ms@2.1.3" || len(upgrades[0].From) != 2 {
		t.Errorf("upgrades: %+v", upgrades)
	}
	both := map[string]cluster.Function{"acme/d": {Modules: &cluster.FunctionModules{Want: map[string]string{"ms": "^2", "ms@0.7.0": "0.7.0"}, Set: "s3"}}}
	sets["s3"] = cluster.Set{Packages: []cluster.Package{{Path: "node_modules/ms", Name: "ms", Version: "2.1.3"}, {Path: "node_modules/ms--0.7.0", Name: "ms", Version: "0.7.0"}}}
	if up := Upgrades("ms", "2.1.3", both, nil, sets, List{}); len(up) != 1 || up[0].Stays != "its code requires ms@0.7.0" {
		t.Errorf("an exact version beside a range: %+v", up)
	}
	if up := Upgrades("ms", "2.1.4", both, nil, sets, List{}); len(up) != 1 || up[0].Stays != "" {
		t.Errorf("a range beside an exact version: %+v", up)
	}
	if up := Upgrades("ms", "2.1.4", both, nil, sets, list); len(up) != 1 || up[0].Stays != "its code requires ms@0.7.0, which is denied" {
		t.Errorf("a range beside an exact version that is denied: %+v", up)
	}
	if Newest([]string{"2.1.3", "3.0.0", "10.0.0", "0.9.0"}, cluster.Allow{Allow: []string{"*"}, Deny: []string{"10.0.0"}}) != "3.0.0" {
		t.Error("the newest that is allowed is 3.0.0")
	}
}

func TestLocksThatAreNotTaken(t *testing.T) {
	for sentence, text := range map[string]string{
		"an old form":       `{"lockfileVersion": 1}`,
		"a link":            `{"lockfileVersion": 3, "packages": {"node_modules/x": {"version": "1.0.0", "link": true}}}`,
		"a repository":      `{"lockfileVersion": 3, "packages": {"node_modules/x": {"version": "1.0.0", "resolved": "git+ssh://git@example.com/x.git#1", "integrity": "sha512-a"}}}`,
		"no digest":         `{"lockfileVersion": 3, "packages": {"node_modules/x": {"version": "1.0.0"}}}`,
		"a weak digest":     `{"lockfileVersion": 3, "packages": {"node_modules/x": {"version": "1.0.0", "integrity": "sha1-a"}}}`,
		"a place outside":   `{"lockfileVersion": 3, "packages": {"../x": {"version": "1.0.0", "integrity": "sha512-a"}}}`,
		"a place on a path": `{"lockfileVersion": 3, "packages": {"node_modules/../../x": {"version": "1.0.0", "integrity": "sha512-a"}}}`,
	} {
		if all, err := packages([]byte(text), here); err == nil {
			t.Errorf("%s is taken: %+v", sentence, all)
		}
	}
}
