package runner

import (
	"crypto"
	"crypto/elliptic"
	"encoding/base64"
	"math/big"
	"strings"
	"testing"
	"time"

	"bulkhead/cluster"
)

func TestRevokedTokensAreRefused(t *testing.T) {
	_, keys := keyring(t)
	claims := func(more m) m {
		all := m{"ten": "acme", "exp": at(time.Hour), "iat": at(-time.Minute)}
		for k, v := range more {
			all[k] = v
		}
		return all
	}
	named := sign(t, keys["hs"], m{"kid": "hs"}, claims(m{"jti": "one"}))
	nameless := sign(t, keys["es"], m{"kid": "es"}, claims(nil))
	undated := sign(t, keys["rs"], m{"kid": "rs"}, m{"ten": "acme", "exp": at(time.Hour)})
	keyless := sign(t, keys["ed"], nil, claims(m{"jti": "keyless"}))
	later := sign(t, keys["hs"], m{"kid": "hs"}, claims(m{"iat": at(0), "jti": "one"}))
	tokens := map[string][]byte{"named": named, "nameless": nameless, "nameless, its signature in another form": mirrored(t, nameless), "undated": undated, "keyless": keyless, "later": later}
	for _, c := range []struct {
		name    string
		revoke  []cluster.Revocation
		refused string
	}{
		{"none", nil, ""},
		{"by name", []cluster.Revocation{{ID: "one"}}, "named, later"},
		{"by no name that is there", []cluster.Revocation{{ID: "on"}, {ID: "ONE"}, {ID: "one "}}, ""},
		{"by what is signed", []cluster.Revocation{{Sum: sumOf(string(nameless))}}, "nameless, nameless, its signature in another form"},
		{"all until a time", []cluster.Revocation{{Before: at(-time.Minute)}}, "named, nameless, nameless, its signature in another form, undated, keyless"},
		{"all until a second earlier", []cluster.Revocation{{Before: at(-time.Minute) - 1}}, "undated"},
		{"all of a key", []cluster.Revocation{{Before: at(-time.Second), KID: "hs"}}, "named, keyless"},
		{"all until now", []cluster.Revocation{{ID: "else"}, {Before: at(0)}}, "named, nameless, nameless, its signature in another form, undated, keyless, later"},
	} {
		gate := gateOf(t, keys)
		gate.Revoke(c.revoke)
		for name, token := range tokens {
			for range 2 { // the second time it has been seen
				_, refusal := gate.Check(token, now)
				switch want := strings.Contains(", "+c.refused+", ", ", "+name+", "); {
				case want && (refusal == nil || refusal.Cause != causeRevoked || refusal.Status != 401):
					t.Errorf("%s: the token %s gets %v, want it revoked", c.name, name, refusal)
				case !want && refusal != nil:
					t.Errorf("%s: the token %s gets %v", c.name, name, refusal)
				}
			}
		}
	}
}

// mirrored is the same token with its ECDSA signature's other form, which
// verifies as well: s taken from the order.
func mirrored(t *testing.T, token []byte) []byte {
	t.Helper()
	parts := strings.Split(string(token), ".")
	sig, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		t.Fatal(err)
	}
	s := new(big.Int).Sub(elliptic.P256().Params().N, new(big.Int).SetBytes(sig[32:]))
	s.FillBytes(sig[32:])
	parts[2] = base64.RawURLEncoding.EncodeToString(sig)
	return []byte(strings.Join(parts, "."))
}

// gateOf is a new gate for the keys of a keyring.
func gateOf(t *testing.T, keys map[string]issuer) *Gate {
	t.Helper()
	all := []cluster.Key{{KID: "hs", Alg: "HS256", Secret: secret}}
	for kid, alg := range map[string]string{"rs": "RS256", "es": "ES256", "ed": "EdDSA"} {
		all = append(all, cluster.Key{KID: kid, Alg: alg, Public: publicPEM(t, keys[kid].key.(crypto.Signer).Public())})
	}
	gate, err := NewGate("acme", all)
	if err != nil {
		t.Fatal(err)
	}
	return gate
}
