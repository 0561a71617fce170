package modules

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"

	"bulkhead/cluster"
)

var versions = []string{
	"0.0.3", "0.0.4", "0.2.3", "0.3.0", "1.0.0", "1.2.3", "1.2.3-beta.2", "1.2.4-beta.1", "1.2.3-rc.1", "1.2.9", "2.0.0", "2.0.0-alpha",
	"2.3.9", "2.4.0", "3.0.0", "4.0.0", "4.17.1", "4.17.20", "4.17.21", "4.17.21-pre", "4.18.0", "5.0.0-beta.1", "5.0.0", "1.2.3+build",
}

// npmSays asks npm's own semver which versions are in each range; nil: it is none.
func npmSays(t *testing.T, ranges []string) [][]bool {
	t.Helper()
	tools := testTools(t)
	const ask = `const s = require(process.argv[1]); const [ranges, versions] = JSON.parse(process.argv[2])
console.log(JSON.stringify(ranges.map(r => s.validRange(r) === null ? null : versions.map(v => s.satisfies(v, r)))))`
	given, _ := json.Marshal([]any{ranges, versions})
	out, err := exec.Command(filepath.Join(tools.node, "bin/node"), "-e", ask, filepath.Join(tools.npm, "node_modules/semver"), string(given)).Output()
	if err != nil {
		t.Fatal(err)
	}
	var all [][]bool
	if err := json.Unmarshal(out, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestRangesMeanWhatNpmMeans(t *testing.T) {
	ranges := []string{
		"^4", "^4.17", "~4.17.1", "4.x", "4", "*", "x", ">=1 <3", "1 - 2", "1.2.3 - 2.3", "^1 || ^3", "1.2.3", "=1.2.3", "v1.2.3", ">1.2.3-beta.1",
		"^1.2.3-beta.1", "~1", "^0.2.3", "^0.0.3", "^0", "<2.0.0", "<=2", "> 1", ">1", "1.2.x", "1.2.* || 3", ">=1.0.0-0", "<1.2.3-rc.2", "^ 1.2",
		"<4.17.21", ">=1||<0.1", ">=2.0.0 <2.0.1-0", "1.2.3-beta.2",
	}
	npm := npmSays(t, ranges)
	for i, text := range ranges {
		r, err := ParseRange(text)
		if err != nil || npm[i] == nil {
			t.Errorf("%s: we say %v, npm %v", text, err, npm[i])
			continue
		}
		for j, v := range versions {
			if r.Has(v) != npm[i][j] {
				t.Errorf("%s has %s: we say %v, npm %v", text, v, r.Has(v), npm[i][j])
			}
		}
	}
}

func TestWhatIsNoRange(t *testing.T) {
	for _, text := range []string{
		"latest", "next", "git+https://example.com/a.git", "github:a/b", "a/b", "npm:evil@1.0.0", "file:../x", "https://example.com/a.tgz", "1 || git://x", "^1 || latest",
		"workspace:*", "../x", "~/x", ">=1,<2", "1.2.3.4.5 x",
	} {
		if _, err := ParseRange(text); err == nil {
			t.Errorf("%s is taken for a range", text)
		}
	}
}

func TestWhatNpmIsAskedForIsWantedAndAllowed(t *testing.T) {
	for _, c := range []struct {
		want  string
		allow cluster.Allow
		asked string
	}{
		{"^4", cluster.Allow{Allow: []string{"*"}}, "^4"},
		{"*", cluster.Allow{Allow: []string{"^4.17.0"}}, "^4.17.0"},
		{"^3 || ^4", cluster.Allow{Allow: []string{"^4", "5.x"}}, "^3 ^4 || ^3 5.x || ^4 || ^4 5.x"},
		{"^4", cluster.Allow{Allow: []string{"^4"}, Deny: []string{"4.17.21"}}, "^4 <4.17.21 || ^4 >4.17.21"},
		{"^4", cluster.Allow{Allow: []string{"*"}, Deny: []string{"<4.17.21", "4.18.x"}}, "^4 >=4.17.21"},
	} {
		asked := narrow(c.want, c.allow)
		if asked != c.asked {
			t.Errorf("%s of %v is %q, want %q", c.want, c.allow, asked, c.asked)
		}
		all := npmSays(t, append([]string{asked, c.want}, c.allow.Allow...))
		for j, v := range versions {
			allowed := false
			for _, in := range all[2:] {
				allowed = allowed || in[j]
			}
			if all[0][j] && !(all[1][j] && allowed) {
				t.Errorf("%s: npm may choose %s", asked, v)
			}
		}
	}
}
