package cluster

import "strings"

// ModuleAlias is the directory in a set's node_modules that has a package which
// is wanted under a name: lodash for "lodash", lodash--4.17.21 for
// "lodash@4.17.21". The harness finds what code requires by the same rule.
func ModuleAlias(name string) string {
	bare, version := SplitModule(name)
	if version == "" {
		return bare
	}
	return bare + "--" + strings.ReplaceAll(version, "+", "_")
}
