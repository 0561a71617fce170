package attack

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"

	"bulkhead/cluster"
)

// keyAttack is a key that a tenant registers.
type keyAttack struct {
	attack string
	key    cluster.Key
	want   string // "taken", or the problem
}

func (k ring) weak(t *testing.T) []keyAttack {
	t.Helper()
	must := func(key crypto.PublicKey, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		return public(key)
	}
	size := func(bits int) string {
		private, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		return public(private.Public())
	}
	curve := func(c elliptic.Curve) string {
		private, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return must(private.Public(), nil)
	}
	x25519, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k.rs)
	if err != nil {
		t.Fatal(err)
	}
	private := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	pkcs1 := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&k.rs.PublicKey)}))
	rs, es, ed := public(k.rs.Public()), public(k.es.Public()), public(k.ed.Public())
	hmac := func(secret string) cluster.Key { return cluster.Key{KID: "k", Alg: "HS256", Secret: secret} }
	key := func(alg, text string) cluster.Key { return cluster.Key{KID: "k", Alg: alg, Public: text} }
	exponent := *k.rs
	exponent.E = 1
	even := *k.rs
	even.E = 65536
	return []keyAttack{
		{"HS256, no secret", hmac(""), "refused: `keys[0].secret` is 0 bytes long"},
		{"HS256, a secret of 31 bytes", hmac(strings.Repeat("ab3", 11)[:31]), "refused: `keys[0].secret` is 31 bytes long"},
		{"HS256, a secret of 32 bytes", hmac("ZkU0bB9vQm3xT7sLw2RjYc5HdN8pKa6e"), "taken"},
		{"HS256, a secret of one byte 64 times", hmac(strings.Repeat("a", 64)), "taken"},
		{"HS256, a public key's PEM as the secret", hmac(rs), "refused: `keys[0].secret` is a PEM block, as of a public key, which is no secret"},
		{"RS256, 1024 bits", key("RS256", size(1024)), "refused: `keys[0].public` is an RSA key of 1024 bits, fewer than 2048"},
		{"RS256, 2047 bits", key("RS256", size(2047)), "refused: `keys[0].public` is an RSA key of 2047 bits, fewer than 2048"},
		{"RS256, 2048 bits", key("RS256", rs), "taken"},
		{"RS256, exponent 1: every signature is its own text", key("RS256", public(&exponent.PublicKey)), "refused: `keys[0].public` is an RSA key with the exponent 1, for which signatures can be forged: want an odd one of at least 3, like 65537"},
		{"RS256, an even exponent", key("RS256", public(&even.PublicKey)), "refused: `keys[0].public` is an RSA key with the exponent 65536, for which signatures can be forged: want an odd one of at least 3, like 65537"},
		{"RS256, as PKCS #1", key("RS256", pkcs1), "refused: `keys[0].public` is PEM, but not of a \"PUBLIC KEY\""},
		{"RS256, the private key", key("RS256", private), "refused: `keys[0].public` holds a private key, which must never be given to anyone: make a new pair, keep its private half to yourself"},
		{"RS256, two keys in one PEM", key("RS256", rs+rs), "refused: `keys[0].public` has something after the PEM block"},
		{"RS256 with an EC key", key("RS256", es), "refused: `keys[0].public` is an EC key, which goes with ES256, not RS256"},
		{"ES256 on P-224", key("ES256", curve(elliptic.P224())), "refused: `keys[0].public` is an EC key, but not on the curve P-256"},
		{"ES256 on P-256", key("ES256", es), "taken"},
		{"ES256 on P-384", key("ES256", curve(elliptic.P384())), "refused: `keys[0].public` is an EC key, but not on the curve P-256"},
		{"ES256 on P-521", key("ES256", curve(elliptic.P521())), "refused: `keys[0].public` is an EC key, but not on the curve P-256"},
		{"ES256, a point that is not on the curve", key("ES256", offCurve(t, es)), "refused: `keys[0].public` is PEM, but no public key is in it"},
		{"ES256 with an Ed25519 key", key("ES256", ed), "refused: `keys[0].public` is an Ed25519 key, which goes with EdDSA, not ES256"},
		{"EdDSA, Ed25519", key("EdDSA", ed), "taken"},
		{"EdDSA, all bytes 0: a point of small order, for which anybody can sign", key("EdDSA", lowOrder(t, ed, 0)), "refused: `keys[0].public` is an Ed25519 key of small order, for which anybody can sign"},
		{"EdDSA, the neutral point", key("EdDSA", lowOrder(t, ed, 1)), "refused: `keys[0].public` is an Ed25519 key of small order, for which anybody can sign"},
		{"EdDSA with an X25519 key", key("EdDSA", public(x25519.Public())), "refused: `keys[0].public` is a public key of a kind we don't take"},
		{"`none`", cluster.Key{KID: "k", Alg: "none"}, "refused: `keys[0].alg` is no algorithm we take"},
		{"HS512", cluster.Key{KID: "k", Alg: "HS512", Secret: strings.Repeat("ab3", 30)}, "refused: `keys[0].alg` is no algorithm we take"},
		{"RS256 with a secret too", cluster.Key{KID: "k", Alg: "RS256", Public: rs, Secret: acmeSecret}, "refused: `keys[0].secret` does not belong to an RS256 key"},
		{"`kid` with a slash", cluster.Key{KID: "../k", Alg: "HS256", Secret: acmeSecret}, "refused: `keys[0].kid` is no key's name"},
		{"`kid` with a NUL", cluster.Key{KID: "k\x00", Alg: "HS256", Secret: acmeSecret}, "refused: `keys[0].kid` is no key's name"},
	}
}

// patch changes the key within a PEM, behind its algorithm's name.
func patch(t *testing.T, text string, change func(der []byte)) string {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		t.Fatal("no PEM")
	}
	change(block.Bytes)
	return string(pem.EncodeToMemory(block))
}

func offCurve(t *testing.T, text string) string {
	return patch(t, text, func(der []byte) { der[len(der)-1] ^= 1 })
}

func lowOrder(t *testing.T, text string, first byte) string {
	return patch(t, text, func(der []byte) {
		point := der[len(der)-32:]
		clear(point)
		point[0] = first
	})
}

func TestWeakKeysAreRefusedWhereTheyAreRegistered(t *testing.T) {
	var rows []row
	for _, a := range newRing(t).weak(t) {
		t.Run(a.attack, func(t *testing.T) {
			spec, err := json.Marshal(map[string]any{"keys": []cluster.Key{a.key}})
			if err != nil {
				t.Fatal(err)
			}
			got := "taken"
			_, problems := cluster.DecodeSpec("acme", spec)
			if cluster.Invalid(problems) != nil {
				got = "refused: `" + problems[0].Path + "` " + problems[0].Wrong
			}
			if got != a.want {
				t.Errorf("%s: got %q, want %q", a.attack, got, a.want)
			}
			rows = append(rows, row{a.attack, got})
		})
	}
	compare(t, "keys", rows)
}
