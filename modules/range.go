package modules

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	semver "github.com/aquasecurity/go-npm-version/pkg"
)

// Range is a range of versions in npm's notation, without its hyphens.
type Range struct {
	text  string
	rules semver.Constraints
}

var (
	hyphen = regexp.MustCompile(`(\S+)\s+-\s+(\S+)`)
	// ranged is all that a range of versions is made of. What npm takes besides,
	// names of tags, URLs, files, repositories and aliases, can't be told from
	// a range by its parser alone.
	ranged = regexp.MustCompile(`^[0-9A-Za-z.*+~^<>=|\s-]*$`)
	tagged = regexp.MustCompile(`(^|[\s|])[A-Za-uw-wyzYZ][A-Za-z]`)
)

// ParseRange reads a range as npm does (node-semver), and nothing else that npm
// takes for a version: no tag, no URL, no file, no repository, no other package.
func ParseRange(text string) (Range, error) {
	plain := hyphen.ReplaceAllString(text, ">=$1 <=$2")
	if !ranged.MatchString(plain) || tagged.MatchString(plain) {
		return Range{}, fmt.Errorf("%q is no range of versions: want one like ^4.17.0, 4.x or >=1.2.0 <3 (no tag, URL, file or repository)", text)
	}
	rules, err := semver.NewConstraints(plain)
	if err != nil {
		return Range{}, fmt.Errorf("%q is no range of versions: want one like ^4.17.0, 4.x or >=1.2.0 <3", text)
	}
	return Range{strings.TrimSpace(plain), rules}, nil
}

// Has reports whether a version is in the range. Of pre-releases those are that
// the range names the version of, as npm has it.
func (r Range) Has(version string) bool {
	v, err := semver.NewVersion(version)
	return err == nil && r.rules.Check(v)
}

// SplitSpec parts "lodash@^4.17" into a package and a range; without one it is
// "*".
func SplitSpec(spec string) (pkg, versions string, err error) {
	pkg, versions = spec, "*"
	if i := strings.LastIndexByte(spec, '@'); i > 0 {
		pkg, versions = spec[:i], spec[i+1:]
	}
	if versions == "" {
		return "", "", errors.New(`want a range after @, like "lodash@^4.17"`)
	}
	_, err = ParseRange(versions)
	return pkg, versions, err
}

// Older reports whether version a comes before b.
func Older(a, b string) bool {
	va, errA := semver.NewVersion(a)
	vb, errB := semver.NewVersion(b)
	return errA == nil && errB == nil && va.LessThan(vb)
}

// anyOf reports which of some ranges has a version; those that are none have
// nothing.
func anyOf(ranges []string, version string) (string, bool) {
	for _, text := range ranges {
		if r, err := ParseRange(text); err == nil && r.Has(version) {
			return text, true
		}
	}
	return "", false
}
