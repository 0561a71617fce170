package ectx

import (
	"strings"
	"testing"
)

const secret = "0123456789abcdef0123456789abcdef"

func TestOpensWithItsKeyAlone(t *testing.T) {
	claim, err := Seal(secret, map[string]string{"API": "hush"})
	if err != nil || strings.Contains(claim, "hush") {
		t.Fatal(claim, err)
	}
	if got, err := Open(secret, claim); err != nil || string(got) != `{"API":"hush"}` {
		t.Errorf("opened as %s, %v", got, err)
	}
	if got, err := Open(secret+"x", claim); err == nil {
		t.Errorf("another key opens it: %s", got)
	}
	parts := strings.Split(claim, ".")
	for i, part := range parts {
		if part == "" {
			continue
		}
		changed := append([]string{}, parts...)
		changed[i] = map[bool]string{true: "B", false: "A"}[part[0] == 'A'] + part[1:]
		if got, err := Open(secret, strings.Join(changed, ".")); err == nil {
			t.Errorf("opened with part %d changed: %s", i, got)
		}
	}
	for _, claim := range []string{"", "a.b.c", "....", strings.Repeat(".", 4000)} {
		if _, err := Open(secret, claim); err == nil {
			t.Errorf("%.20q opens", claim)
		}
	}
}

// TestAnotherLibrarysClaim opens what Node's own crypto made, by the words of
// this package's comment.
func TestAnotherLibrarysClaim(t *testing.T) {
	const claim = `eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..qC-6BHSSNEvkK0Pq.bbNljiBvOEAg.Fniwt5eD3oHgcOlDoqU-Zw`
	if got, err := Open(secret, claim); err != nil || string(got) != `{"A":"b"}` {
		t.Errorf("opened as %s, %v", got, err)
	}
}
