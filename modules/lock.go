package modules

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"bulkhead/cluster"
)

// lock is a package-lock.json of version 3, as far as it matters here.
type lock struct {
	Version  int                    `json:"lockfileVersion"`
	Packages map[string]lockPackage `json:"packages"`
}

type lockPackage struct {
	Name      string   `json:"name"` // where it is not what its path says
	Version   string   `json:"version"`
	Resolved  string   `json:"resolved"`
	Integrity string   `json:"integrity"`
	Link      bool     `json:"link"`
	Bundled   bool     `json:"inBundle"` // came in the tarball of the one that it is in
	Optional  bool     `json:"optional"`
	Scripts   bool     `json:"hasInstallScript"`
	OS        []string `json:"os"`
	CPU       []string `json:"cpu"`
	LibC      []string `json:"libc"`

	Dependencies, OptionalDependencies, PeerDependencies map[string]string
}

// maxPackages is how many packages a set may have: its record has to fit etcd.
const maxPackages = 3000

// ways says of each package, by its path, by which others it is depended on from
// one that is wanted on; "" for those that are wanted. Of several ways it is a
// shortest.
func (l lock) ways() map[string]string {
	ways := map[string]string{}
	for queue := []string{""}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		p, way := l.Packages[at], ""
		if at != "" {
			_, name, _ := cutLast(at, "node_modules/")
			way = strings.TrimPrefix(ways[at]+" > "+name, " > ")
		}
		for _, needs := range []map[string]string{p.Dependencies, p.OptionalDependencies, p.PeerDependencies} {
			for _, name := range slices.Sorted(maps.Keys(needs)) {
				to, ok := l.find(at, name)
				if _, seen := ways[to]; ok && !seen {
					ways[to] = way
					queue = append(queue, to)
				}
			}
		}
	}
	return ways
}

// find is the package that one at a path gets when it requires a name, as Node
// looks for it.
func (l lock) find(at, name string) (string, bool) {
	for {
		to := strings.TrimPrefix(at+"/node_modules/"+name, "/")
		if _, ok := l.Packages[to]; ok {
			return to, true
		}
		if at == "" {
			return "", false
		}
		before, _, _ := cutLast(at, "node_modules/")
		at = strings.TrimSuffix(before, "/")
	}
}

// platform is what packages are installed for, in Node's words.
type platform struct{ os, cpu, libc string }

// packages reads a lock: what will be installed on a platform, by path. Every
// package has to come from the registry, with the digest of its tarball.
func packages(data []byte, on platform) ([]cluster.Package, error) {
	var l lock
	if err := json.Unmarshal(data, &l); err != nil {
		return nil, fmt.Errorf("cannot read npm's lock: %w", err)
	}
	if l.Version != 3 || l.Packages == nil {
		return nil, fmt.Errorf("cannot read npm's lock: it is of version %d, want 3", l.Version)
	}
	all, ways := []cluster.Package(nil), l.ways()
	for at, p := range l.Packages {
		if at == "" || p.Optional && !on.fits(p) {
			continue
		}
		one, err := p.read(at)
		if err != nil {
			return nil, err
		}
		one.Way = ways[at]
		all = append(all, one)
	}
	if len(all) > maxPackages {
		return nil, refuse("what is wanted comes to %d packages, and a set may have %d: want fewer", len(all), maxPackages)
	}
	slices.SortFunc(all, func(a, b cluster.Package) int { return strings.Compare(a.Path, b.Path) })
	return all, nil
}

func (p lockPackage) read(at string) (cluster.Package, error) {
	name := p.Name
	if name == "" {
		_, name, _ = cutLast(at, "node_modules/")
	}
	what := name + "@" + p.Version
	switch {
	case !strings.HasPrefix(at, "node_modules/") || path.Clean(at) != at || cluster.CheckModule(name) != nil:
		return cluster.Package{}, refuse("npm's lock has something at %q, which is no package's place", at)
	case p.Link || p.Version == "" || p.Resolved != "": // npm is told to say it only of others
		return cluster.Package{}, refuse("%s comes from a URL, a repository or a directory, not from the registry: want a version of it, or a package, that doesn't", what)
	case !p.Bundled && !strings.Contains(p.Integrity, "sha512-"):
		return cluster.Package{}, refuse("%s has no SHA-512 in the registry, so what comes can't be verified: want a newer version", what)
	}
	return cluster.Package{Path: at, Name: name, Version: p.Version, Integrity: p.Integrity, Scripts: p.Scripts}, nil
}

// cutLast is [strings.Cut] at the last separator.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return "", s, false
}

// fits says whether a package is for the platform (npm's os, cpu and libc).
func (on platform) fits(p lockPackage) bool {
	return has(p.OS, on.os) && has(p.CPU, on.cpu) && has(p.LibC, on.libc)
}

// has reports whether a list of names, or of names with "!" that are left out,
// has one.
func has(list []string, name string) bool {
	if len(list) == 0 || slices.Contains(list, "any") {
		return true
	}
	if slices.Contains(list, "!"+name) {
		return false
	}
	return slices.Contains(list, name) || !slices.ContainsFunc(list, func(s string) bool { return !strings.HasPrefix(s, "!") })
}
