package cluster

import (
	"fmt"
	"strings"
)

// Bounds of what an operator says of a package.
const (
	maxAllow  = 64 * KiB
	maxRanges = 100
)

// CheckModule returns an error unless name can be an npm package's.
func CheckModule(name string) error {
	if len(name) > 214 || !modulePattern.MatchString(name) {
		return fmt.Errorf("package %q: want an npm package's name, like lodash or @scope/name", name)
	}
	return nil
}

// DecodeAllow reads the value of a package's key as strictly as [DecodeSpec] does
// a spec, and returns all that is wrong with it. Whether a range is one in npm's
// sense is for package modules to say.
func DecodeAllow(pkg string, data []byte) (Allow, []Problem) {
	var a Allow
	r := &reader{}
	if err := CheckModule(pkg); err != nil {
		r.wrong("", err.Error(), "")
	}
	root, problem := parseTree(data, maxAllow)
	if problem != nil {
		r.problems = append(r.problems, *problem)
		return a, r.problems
	}
	r.object("", root,
		field{"allow", r.list(maxRanges, r.span(&a.Allow))},
		field{"deny", r.list(maxRanges, r.span(&a.Deny))},
		field{"scripts", r.boolean(&a.Scripts)},
		field{"reason", r.text(&a.Reason)},
	)
	if root.kind == "object" && len(r.problems) == 0 && len(a.Allow)+len(a.Deny) == 0 {
		r.wrong("", "neither allows nor denies anything", `want at least one range, like {"allow": ["^4.17.0"]}`)
	}
	return a, r.problems
}

// DecodeModulePolicy reads the value of [ModulePolicyKey] as strictly.
func DecodeModulePolicy(data []byte) (ModulePolicy, []Problem) {
	var p ModulePolicy
	r := &reader{}
	root, problem := parseTree(data, maxAllow)
	if problem != nil {
		return p, []Problem{*problem}
	}
	r.object("", root, field{"listed", r.boolean(&p.Listed)})
	return p, r.problems
}

// span reads a range of versions into a list.
func (r *reader) span(out *[]string) func(string, node) {
	return func(path string, n node) {
		var text string
		r.text(&text)(path, n)
		if n.kind == "text" && (strings.TrimSpace(text) == "" || len(text) > 256) {
			r.wrong(path, fmt.Sprintf("is a range of %d bytes", len(text)), `want one like "^4.17.0"`)
		}
		*out = append(*out, text)
	}
}
