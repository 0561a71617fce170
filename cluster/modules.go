package cluster

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"time"
)

// FunctionModules are the npm packages that a function's code may require.
type FunctionModules struct {
	// Want are packages and the ranges of versions that will do, in npm's
	// notation, as of a package.json's dependencies. A name like "lodash@4.17.21"
	// stands for that version beside others: require('lodash@4.17.21').
	Want map[string]string `json:"want"`
	// Set is what was built of them: the SHA-256 of its archive, in hex. The builder
	// fills it in; without it the function waits.
	Set string `json:"set,omitempty"`
	// At is where the set is in the host's cells, [ModulesDir] and a name. The
	// host's agent fills it in, for the runner; empty: it is not on the host yet.
	At string `json:"at,omitempty"`
}

// ModulesDir is where cells see the sets of their host.
const ModulesDir = "/modules"

// Waits says why a valid function can't be served yet; "": it can.
func (f Function) Waits() string {
	if f.Modules == nil || len(f.Modules.Want) == 0 || f.Modules.Set != "" {
		return ""
	}
	return "its npm modules are not built yet: bulkhead modules builds shows how far they are"
}

// Allow says which versions of an npm package tenants may have: the value of
// [ModuleKey]. What no key allows is refused; packages that an allowed one
// depends on are taken unless they are denied, or [ModulePolicy] says otherwise.
type Allow struct {
	Allow   []string `json:"allow,omitempty"`   // ranges, in npm's notation
	Deny    []string `json:"deny,omitempty"`    // ranges that are not to be had, although they are allowed
	Scripts bool     `json:"scripts,omitempty"` // its install scripts may run, and native code be compiled
	Reason  string   `json:"reason,omitempty"`  // why, for those who wonder
}

// ModulePolicy is what holds for all packages: the value of [ModulePolicyKey].
type ModulePolicy struct {
	// Listed: packages that others depend on have to be allowed themselves.
	Listed bool `json:"listed,omitempty"`
}

// Build is how far the builder is with a set of modules that somebody wants: the
// value of [BuildKey].
type Build struct {
	Want  map[string]string `json:"want"`
	State string            `json:"state"`           // BuildQueued and so on
	Set   string            `json:"set,omitempty"`   // when it is available
	Error string            `json:"error,omitempty"` // one sentence: which package, which step, what to do
	Log   string            `json:"log,omitempty"`   // the end of what npm said, at most 64 KiB
	By    string            `json:"by,omitempty"`    // the builder's host
	Since time.Time         `json:"since"`
	// Seen is etcd's revision that the builder went by: of the list, and of who
	// wants it.
	Seen int64 `json:"seen,omitempty"`
}

// States of a [Build].
const (
	BuildQueued    = "queued"
	BuildRunning   = "building"
	BuildAvailable = "available"
	BuildFailed    = "failed"
)

// Set is what is in a set of modules: the value of [SetKey].
type Set struct {
	Want     map[string]string `json:"want"`
	Packages []Package         `json:"packages"` // by path
	Size     Bytes             `json:"size"`     // of its archive
	Node     string            `json:"node"`     // version that native code was compiled for
	Arch     string            `json:"arch"`     // as Go calls it
	Built    time.Time         `json:"built"`
}

// Package is a package of a set, as its package-lock.json has it.
type Package struct {
	Path      string `json:"path"` // node_modules/express/node_modules/debug
	Name      string `json:"name"`
	Version   string `json:"version"`
	Integrity string `json:"integrity"`         // SRI of its tarball
	Scripts   bool   `json:"scripts,omitempty"` // it has install scripts
	Way       string `json:"way,omitempty"`     // who depends on it, from one that is wanted on: express > body-parser
}

// WantID names what is wanted: equal wants have an equal one.
func WantID(want map[string]string) string {
	data, err := json.Marshal(want) // map keys come sorted
	if err != nil {
		panic("cluster: a map of strings must marshal: " + err.Error())
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:16])
}

// maxWant is how many packages one function may want.
const maxWant = 200

var setPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

func (r *reader) functionModules(path string, n node, m *FunctionModules) {
	r.object(path, n,
		field{"want", r.texts(&m.Want, r.wanted)},
		field{"set", r.matching(&m.Set, setPattern.MatchString, "the SHA-256 of a set's archive, in hex")},
	)
	if len(m.Want) > maxWant {
		r.wrong(path+".want", fmt.Sprintf("has %d packages", len(m.Want)), fmt.Sprintf("want at most %d", maxWant))
	}
}

// wanted checks a package's name, perhaps with a version, and a range; what is
// allowed, and whether the range is one, is for the builder to say.
func (r *reader) wanted(path, name, version string) {
	bare, exact := SplitModule(name)
	switch {
	case len(bare) > 214 || !modulePattern.MatchString(bare):
		r.wrong(path, "is no npm package's name", `want one like "lodash" or "@scope/name"`)
	case exact != "" && !versionPattern.MatchString(exact):
		r.wrong(path, "names no exact version", `want one like "lodash@4.17.21"`)
	case exact != "" && version != exact:
		r.wrong(path, "is of another version", "want "+exact+", as its name says")
	case version == "" || len(version) > 256:
		r.wrong(path, fmt.Sprintf("is a range of %d bytes", len(version)), `want one like "^4.18.0"`)
	}
}

// SplitModule parts "lodash@4.17.21" into name and version; "" is none.
func SplitModule(name string) (bare, version string) {
	for i := len(name) - 1; i > 0; i-- {
		if name[i] == '@' {
			return name[:i], name[i+1:]
		}
	}
	return name, ""
}
