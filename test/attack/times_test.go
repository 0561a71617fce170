package attack

import (
	"fmt"
	"testing"
	"time"

	"bulkhead/runner"
)

func TestTimesAtTheEdgeOfTheSkew(t *testing.T) {
	k := newRing(t)
	gate, err := runner.NewGate("acme", k.acme())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(4_000_000_000, 0)
	tests := []struct{ attack, claims, want string }{
		{"`exp` 4.999 s ago", `"exp":3999999995.001`, "taken"},
		{"`exp` 5 s ago", `"exp":3999999995`, "401 token_expired"},
		{"`nbf` in 5 s", `"exp":4100000000,"nbf":4000000005`, "taken"},
		{"`nbf` in 6 s", `"exp":4100000000,"nbf":4000000006`, "403 token_not_yet_valid"},
		{"`iat` in 5 s", `"exp":4100000000,"iat":4000000005`, "taken"},
		{"`iat` in 6 s", `"exp":4100000000,"iat":4000000006`, "403 token_not_yet_valid"},
		{"`exp` before `nbf`, both within the skew", `"exp":3999999996,"nbf":4000000004`, "taken"},
		{"`exp` 2^40, the last that is read", `"exp":1099511627776`, "taken"},
		{"`exp` 2^40 + 1", `"exp":1099511627777`, "401 token_malformed"},
		{"`nbf` -2^40", `"exp":4100000000,"nbf":-1099511627776`, "taken"},
		{"`exp` 1e-300", `"exp":1e-300`, "401 token_expired"},
	}
	var rows []row
	for _, tt := range tests {
		got := "taken"
		if _, refusal := gate.Check([]byte(token(header, `{"ten":"acme",`+tt.claims+`}`, hs(acmeSecret))), now); refusal != nil {
			got = fmt.Sprintf("%d %s", refusal.Status, refusal.Cause)
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.attack, got, tt.want)
		}
		rows = append(rows, row{tt.attack, got})
	}
	compare(t, "times", rows)
}
