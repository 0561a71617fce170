package modules

import (
	"cmp"
	"slices"
	"strings"

	"bulkhead/cluster"
)

// Holder is a function that has a package.
type Holder struct {
	Tenant   string `json:"tenant"`
	Function string `json:"function"`
	Set      string `json:"set"`
	Version  string `json:"version"`
	Path     string `json:"path"`
	Way      string `json:"way"`              // by which packages it comes; "": it is wanted itself
	Denied   string `json:"denied,omitempty"` // by which range
}

// Holders are the functions that have a package, in whatever version. functions
// are by tenant/function.
func Holders(pkg string, functions map[string]cluster.Function, sets map[string]cluster.Set, l List) (all []Holder) {
	for key, f := range functions {
		if f.Modules == nil {
			continue
		}
		tenant, name, _ := strings.Cut(key, "/")
		for _, p := range sets[f.Modules.Set].Packages {
			if p.Name != pkg {
				continue
			}
			h := Holder{Tenant: tenant, Function: name, Set: f.Modules.Set, Version: p.Version, Path: p.Path, Way: p.Way}
			h.Denied, _ = anyOf(l.Packages[pkg].Deny, p.Version)
			all = append(all, h)
		}
	}
	slices.SortFunc(all, func(a, b Holder) int {
		return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.Function, b.Function), cmp.Compare(a.Path, b.Path))
	})
	return all
}

// Upgrade is what an upgrade of a package means for a build.
type Upgrade struct {
	Build     string   `json:"build"`
	From      []string `json:"from"`            // versions that it has now
	Functions []string `json:"functions"`       // tenant/function
	Stays     string   `json:"stays,omitempty"` // why it can't have the new one

	stuck bool
}

// Upgrades are the builds that have an older version of a package than one, and
// what becomes of each when it is built anew. defaults are what tenants'
// functions want besides their own.
func Upgrades(pkg, version string, functions map[string]cluster.Function, defaults map[string]map[string]string, sets map[string]cluster.Set, l List) (all []Upgrade) {
	byBuild := map[string]*Upgrade{}
	for _, h := range Holders(pkg, functions, sets, l) {
		if !Older(h.Version, version) {
			continue
		}
		key := h.Tenant + "/" + h.Function
		want := Wants(defaults[h.Tenant], functions[key].Modules.Want)
		id := cluster.WantID(want)
		u := byBuild[id]
		why := stays(h, version, want)
		if u == nil {
			u = &Upgrade{Build: id, Stays: why}
			byBuild[id] = u
		}
		switch {
		case why != "" && h.Denied != "":
			u.Stays, u.stuck = why+", which is denied", true // nothing can be built of such a want
		case why == "" && !u.stuck:
			u.Stays = "" // one of them moves
		}
		if !slices.Contains(u.From, h.Version) {
			u.From = append(u.From, h.Version)
		}
		if !slices.Contains(u.Functions, key) {
			u.Functions = append(u.Functions, key)
		}
	}
	for _, u := range byBuild {
		all = append(all, *u)
	}
	slices.SortFunc(all, func(a, b Upgrade) int { return cmp.Compare(a.Functions[0], b.Functions[0]) })
	return all
}

// stays says why what somebody has of a package can't become a version of it.
func stays(h Holder, version string, want map[string]string) string {
	for name, text := range want {
		if h.Path != "node_modules/"+cluster.ModuleAlias(name) {
			continue
		}
		if bare, exact := cluster.SplitModule(name); exact != "" {
			return "its code requires " + bare + "@" + exact
		}
		if r, err := ParseRange(text); err != nil || !r.Has(version) {
			return "it wants " + name + "@" + text
		}
	}
	return ""
}
