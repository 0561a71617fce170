package modules

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"bulkhead/cluster"
)

// MetaWants is the name in a function's metadata under which webtasks said what
// they want: a JSON object of packages and versions.
const MetaWants = "wt-node-dependencies"

// exactRequire finds require('lodash@4.17.21'), and what import makes of it.
var exactRequire = regexp.MustCompile(`(?:\brequire\s*\(|\bimport\s*\(|\bfrom|\bimport)\s*['"]((?:@[a-z0-9~-][a-z0-9._~-]*/)?[a-z0-9~-][a-z0-9._~-]*@\d+\.\d+\.\d+(?:[-+][0-9A-Za-z.+-]+)?)(?:/[^'"]*)?['"]`)

// InCode are the packages that code requires in an exact version, by name with
// version. One in a comment counts too.
func InCode(code string) map[string]string {
	found := map[string]string{}
	for _, m := range exactRequire.FindAllStringSubmatch(code, -1) {
		_, version := cluster.SplitModule(m[1])
		found[m[1]] = version
	}
	return found
}

// InMeta are the packages that a function's metadata wants.
func InMeta(meta map[string]string) (map[string]string, error) {
	text, ok := meta[MetaWants]
	if !ok {
		return nil, nil
	}
	var found map[string]string
	if err := json.Unmarshal([]byte(text), &found); err != nil {
		return nil, fmt.Errorf(`cannot read the metadata's %s: %w: want an object like {"lodash": "^4.17.0"}`, MetaWants, err)
	}
	return found, nil
}

// InPackageJSON are the dependencies that a package.json has, without those for
// development.
func InPackageJSON(data []byte) (map[string]string, error) {
	var p struct {
		Dependencies map[string]string `json:"dependencies"`
	}
	if err := json.Unmarshal(data, &p); err != nil {
		return nil, fmt.Errorf("cannot read package.json: %w", err)
	}
	return p.Dependencies, nil
}

// InSpecs are packages given as "lodash@^4.17", or "lodash" for any version.
func InSpecs(specs []string) (map[string]string, error) {
	found := map[string]string{}
	for _, s := range specs {
		pkg, versions, err := SplitSpec(strings.TrimSpace(s))
		if err == nil {
			err = cluster.CheckModule(pkg)
		}
		if err != nil {
			return nil, fmt.Errorf("module %q: %w", s, err)
		}
		found[pkg] = versions
	}
	return found, nil
}
