package modules

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"bulkhead/cluster"
)

// List is what the operator allows.
type List struct {
	Policy   cluster.ModulePolicy
	Packages map[string]cluster.Allow
}

// clone is the list as it is now.
func (l List) clone() List { return List{l.Policy, maps.Clone(l.Packages)} }

// ErrRefused means that the list does not allow what is wanted: trying again
// changes nothing until the list, or what is wanted, does.
var ErrRefused = errors.New("not allowed")

// refusal is an error that wraps ErrRefused without saying so.
type refusal struct{ text string }

func (r refusal) Error() string   { return r.text }
func (r refusal) Is(e error) bool { return e == ErrRefused }

func refuse(format string, args ...any) error { return refusal{fmt.Sprintf(format, args...)} }

// Narrow checks what is wanted before anything is asked of a registry, and
// returns what npm is to be asked for: dependencies as a package.json has them.
// A name that the list doesn't have is not asked for.
func (l List) Narrow(want map[string]string) (map[string]string, error) {
	dependencies := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		bare, exact := cluster.SplitModule(name)
		if _, err := ParseRange(want[name]); err != nil {
			return nil, refuse("%s: %v", bare, err)
		}
		a := l.Packages[bare]
		if len(a.Allow) == 0 {
			return nil, refuse("%s is not on the list of packages that functions may have: bulkhead modules allow %s", bare, spec(bare, want[name]))
		}
		alias, versions := cluster.ModuleAlias(name), narrow(want[name], a)
		if exact != "" {
			if err := l.one(cluster.Package{Name: bare, Version: exact}, true); err != nil {
				return nil, err
			}
			versions = "npm:" + bare + "@" + exact
		}
		if _, twice := dependencies[alias]; twice {
			return nil, refuse("%s is wanted twice, as itself and as a version of another package: rename nothing, want one of them", alias)
		}
		dependencies[alias] = versions
	}
	return dependencies, nil
}

// spec is a package and a range as a shell takes them.
func spec(pkg, versions string) string {
	if strings.ContainsAny(versions, " <>|*~") {
		return "'" + pkg + "@" + versions + "'"
	}
	return pkg + "@" + versions
}

// Check says whether a resolved set may be had: each package by its name and
// version, and whether it may run its install scripts. Its error names one that
// may not, why, and what to do.
func (l List) Check(want map[string]string, packages []cluster.Package) error {
	direct := map[string]bool{}
	for name := range want {
		direct["node_modules/"+cluster.ModuleAlias(name)] = true
	}
	for _, p := range packages {
		if err := l.one(p, direct[p.Path] || l.Policy.Listed); err != nil {
			if p.Way != "" {
				return refuse("%v (%s depends on it)", err, p.Way)
			}
			return err
		}
	}
	return nil
}

// one checks a package; a listed one has to be on the list itself.
func (l List) one(p cluster.Package, listed bool) error {
	a := l.Packages[p.Name]
	if by, denied := anyOf(a.Deny, p.Version); denied {
		return refuse("%s@%s is denied (%s%s): want another version of it", p.Name, p.Version, by, because(a))
	}
	if _, ok := anyOf(a.Allow, p.Version); listed && !ok {
		if len(a.Allow) == 0 {
			return refuse("%s@%s is not on the list of packages that functions may have: bulkhead modules allow %s@^%s", p.Name, p.Version, p.Name, p.Version)
		}
		return refuse("%s@%s is outside of what is allowed (%s): want a version that is, or bulkhead modules allow %s@%s", p.Name, p.Version, strings.Join(a.Allow, ", "), p.Name, p.Version)
	}
	if p.Scripts && !a.Scripts {
		return refuse("%s@%s has an install script, and may not run it: bulkhead modules allow %s@^%s --scripts", p.Name, p.Version, p.Name, p.Version)
	}
	return nil
}

func because(a cluster.Allow) string {
	if a.Reason == "" {
		return ""
	}
	return ": " + a.Reason
}

// explain says of a package of which npm found no version whether the list is why.
func (l List) explain(want map[string]string, err error) error {
	var none noVersion
	if !errors.As(err, &none) {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		bare, exact := cluster.SplitModule(name)
		if a := l.Packages[bare]; exact == "" && strings.Contains(none.summary+" ", " "+bare+"@") {
			return refuse("no version of %s is both wanted (%s) and allowed (%s): want another range, or bulkhead modules allow %s",
				bare, want[name], strings.Join(a.Allow, ", "), spec(bare, want[name]))
		}
	}
	return err
}

// Denied tells by which range a version of a package is denied, if it is.
func Denied(l List, pkg, version string) (by string, ok bool) {
	return anyOf(l.Packages[pkg].Deny, version)
}

// Newest is the newest of some versions that an entry of the list allows; "": none.
func Newest(versions []string, a cluster.Allow) (newest string) {
	for _, v := range versions {
		_, allowed := anyOf(a.Allow, v)
		if _, denied := anyOf(a.Deny, v); allowed && !denied && (newest == "" || Older(newest, v)) {
			newest = v
		}
	}
	return newest
}
