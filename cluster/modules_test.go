package cluster

import (
	"strings"
	"testing"
)

func TestWhatIsSaidOfAPackageIsReadStrictly(t *testing.T) {
	for _, c := range []struct{ pkg, text, wrong string }{
		{"lodash", `{"allow": ["^4.17.0"], "deny": ["4.17.20"], "scripts": false, "reason": "asked for"}`, ""},
		{"@scope/name", `{"deny": ["*"]}`, ""},
		{"lodash", `{"allow": "^4"}`, "want a list"},
		{"lodash", `{"allow": [4]}`, "want a text"},
		{"lodash", `{"allow": [" "]}`, "is a range of 1 bytes"},
		{"lodash", `{"alow": ["^4"]}`, `did you mean "allow"?`},
		{"lodash", `{"allow": ["^4"], "allow": ["^5"]}`, "is there twice"},
		{"lodash", `{"reason": "none"}`, "neither allows nor denies"},
		{"lodash", `{"allow": ["^4"], "scripts": "yes"}`, "scripts"},
		{"../x", `{"allow": ["^4"]}`, "want an npm package's name"},
		{"lodash", `[]`, "is a list"},
	} {
		_, problems := DecodeAllow(c.pkg, []byte(c.text))
		expect(t, c.pkg+" "+c.text, Invalid(problems), c.wrong)
	}
	for text, wrong := range map[string]string{`{}`: "", `{"listed": true}`: "", `{"listed": 1}`: "listed", `{"open": true}`: "unknown key"} {
		_, problems := DecodeModulePolicy([]byte(text))
		expect(t, text, Invalid(problems), wrong)
	}
}

func expect(t *testing.T, what string, err error, wrong string) {
	t.Helper()
	switch {
	case wrong == "" && err != nil:
		t.Errorf("%s is refused: %v", what, err)
	case wrong != "" && (err == nil || !strings.Contains(err.Error(), wrong)):
		t.Errorf("%s: got %v, want one with %q", what, err, wrong)
	}
}

func TestAliases(t *testing.T) {
	for name, want := range map[string]string{
		"lodash": "lodash", "lodash@4.17.21": "lodash--4.17.21", "@a/b": "@a/b", "@a/b@1.0.0-rc.1+x": "@a/b--1.0.0-rc.1_x",
	} {
		if got := ModuleAlias(name); got != want {
			t.Errorf("%s lies in %s, want %s", name, got, want)
		}
	}
}
