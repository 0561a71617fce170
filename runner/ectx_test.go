package runner

import (
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"bulkhead/cluster"
	"bulkhead/internal/ectx"
)

func TestSecretsInATokenOpenWithTheKeyThatSignedIt(t *testing.T) {
	const other = "fedcba9876543210fedcba9876543210"
	_, keys := keyring(t)
	gate := gateOf(t, keys)
	more, err := NewGate("acme", []cluster.Key{{KID: "hs", Alg: "HS256", Secret: secret}, {KID: "other", Alg: "HS256", Secret: other}})
	if err != nil {
		t.Fatal(err)
	}
	claim := func(secret string) string {
		text, err := ectx.Seal(secret, map[string]string{"API": "hush"})
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	claims := func(ectx any) m { return m{"ten": "acme", "exp": at(time.Hour), "ectx": ectx} }
	for _, c := range []struct {
		name  string
		gate  *Gate
		token []byte
		good  bool
	}{
		{"its key", gate, sign(t, keys["hs"], m{"kid": "hs"}, claims(claim(secret))), true},
		{"its key, unnamed", more, sign(t, keys["hs"], nil, claims(claim(secret))), true},
		{"the other key, unnamed", more, sign(t, issuer{jwt.SigningMethodHS256, []byte(other)}, nil, claims(claim(other))), true},
		{"another of the tenant's keys", more, sign(t, keys["hs"], m{"kid": "hs"}, claims(claim(other))), false},
		{"a key without a secret", gate, sign(t, keys["es"], m{"kid": "es"}, claims(claim(secret))), false},
		{"a key without a secret, unnamed", gate, sign(t, keys["es"], nil, claims(claim(secret))), false},
		{"plain text", gate, sign(t, keys["hs"], m{"kid": "hs"}, claims(`{"API":"hush"}`)), false},
		{"an object", gate, sign(t, keys["hs"], m{"kid": "hs"}, claims(m{"API": "hush"})), false},
	} {
		grant, refusal := c.gate.Check(c.token, now)
		switch {
		case c.good && (refusal != nil || string(grant.Secrets) != `{"API":"hush"}`):
			t.Errorf("%s: %v", c.name, refusal)
		case !c.good && (refusal == nil || refusal.Cause != causeBadToken):
			t.Errorf("%s: got %v, want it refused", c.name, refusal)
		}
	}
	if grant, refusal := gate.Check(sign(t, keys["hs"], m{"kid": "hs"}, m{"ten": "acme", "exp": at(time.Hour)}), now); refusal != nil || grant.Secrets != nil {
		t.Errorf("without any: %v", refusal)
	}
}
