package runner

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"bulkhead/cluster"
)

const secret = "0123456789abcdef0123456789abcdef"

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

type issuer struct {
	method jwt.SigningMethod
	key    any
}

// keyring is a tenant with a key of each algorithm.
func keyring(t testing.TB) (*Gate, map[string]issuer) {
	t.Helper()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edPub, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	gate, err := NewGate("acme", []cluster.Key{
		{KID: "hs", Alg: "HS256", Secret: secret},
		{KID: "rs", Alg: "RS256", Public: publicPEM(t, &rsaKey.PublicKey)},
		{KID: "es", Alg: "ES256", Public: publicPEM(t, &ecKey.PublicKey)},
		{KID: "ed", Alg: "EdDSA", Public: publicPEM(t, edPub)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return gate, map[string]issuer{
		"hs": {jwt.SigningMethodHS256, []byte(secret)},
		"rs": {jwt.SigningMethodRS256, rsaKey},
		"es": {jwt.SigningMethodES256, ecKey},
		"ed": {jwt.SigningMethodEdDSA, edKey},
	}
}

func publicPEM(t testing.TB, key any) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func sign(t testing.TB, i issuer, header, claims map[string]any) []byte {
	t.Helper()
	tok := jwt.NewWithClaims(i.method, jwt.MapClaims(claims))
	for k, v := range header {
		tok.Header[k] = v
	}
	s, err := tok.SignedString(i.key)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(s)
}

type m = map[string]any

func at(d time.Duration) int64 { return now.Add(d).Unix() }

func TestEveryAlgorithmIsAcceptedWithItsOwnKey(t *testing.T) {
	gate, keys := keyring(t)
	for kid, i := range keys {
		token := sign(t, i, m{"kid": kid}, m{"ten": "acme", "exp": at(time.Hour)})
		if _, refusal := gate.Check(token, now); refusal != nil {
			t.Errorf("%s with kid: %v", kid, refusal)
		}
		token = sign(t, i, nil, m{"ten": "acme", "exp": at(time.Hour), "jti": kid})
		if _, refusal := gate.Check(token, now); refusal != nil {
			t.Errorf("%s without kid: %v", kid, refusal)
		}
	}
}

func TestTokensAreRefusedWithTheReason(t *testing.T) {
	gate, keys := keyring(t)
	hour := at(time.Hour)
	good := m{"ten": "acme", "exp": hour}
	hs := keys["hs"]
	other := issuer{jwt.SigningMethodHS256, []byte(strings.Repeat("x", 32))}
	tests := []struct {
		name   string
		token  []byte
		status int
		cause  string
	}{
		{"no token", nil, 401, causeNoToken},
		{"not a token", []byte("hello"), 401, causeBadToken},
		{"three parts of nothing", []byte("a.b.c"), 401, causeBadToken},
		{"over 16 KiB", []byte(strings.Repeat("a", maxToken+1)), 401, causeBadToken},
		{"another tenant's key, same kid", sign(t, other, m{"kid": "hs"}, good), 403, causeForeign},
		{"another tenant's key, its own kid", sign(t, other, m{"kid": "globex"}, good), 403, causeForeign},
		{"another tenant's key, no kid", sign(t, other, nil, good), 403, causeForeign},
		{"kid of another type", sign(t, hs, m{"kid": []int{1}}, good), 403, causeForeign},
		{"kid of a key with another algorithm", sign(t, hs, m{"kid": "rs"}, good), 403, causeForeign},
		{"HS256 with the RSA public key as secret", confuse(t, gate), 403, causeForeign},
		{"alg none", sign(t, issuer{jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType}, nil, good), 403, causeForeign},
		{"an algorithm that no key has", sign(t, issuer{jwt.SigningMethodHS512, []byte(secret)}, nil, good), 403, causeForeign},
		{"signature cut off", cutSignature(sign(t, hs, nil, good)), 403, causeForeign},
		{"critical header extension", sign(t, hs, m{"crit": []string{"exp"}}, good), 403, causeNotSupported},
		{"no exp", sign(t, hs, nil, m{"ten": "acme"}), 403, causeBadToken},
		{"expired", sign(t, hs, nil, m{"ten": "acme", "exp": at(-time.Minute)}), 401, causeExpired},
		{"expired for just longer than the skew", sign(t, hs, nil, m{"ten": "acme", "exp": at(-clockSkew)}), 401, causeExpired},
		{"not yet valid", sign(t, hs, nil, m{"ten": "acme", "exp": hour, "nbf": at(time.Minute)}), 403, causeEarly},
		{"issued in the future", sign(t, hs, nil, m{"ten": "acme", "exp": hour, "iat": at(time.Minute)}), 403, causeEarly},
		{"no ten", sign(t, hs, nil, m{"exp": hour}), 403, causeWrongTenant},
		{"ten of another tenant", sign(t, hs, nil, m{"ten": "globex", "exp": hour}), 403, causeWrongTenant},
		{"ten that is only part of a regex", sign(t, hs, nil, m{"ten": "/cme/", "exp": hour}), 403, causeWrongTenant},
		{"ten of another type", sign(t, hs, nil, m{"ten": 7, "exp": hour}), 401, causeBadToken},
		{"exp of another type", sign(t, hs, nil, m{"ten": "acme", "exp": "tomorrow"}), 401, causeBadToken},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, refusal := gate.Check(tt.token, now)
			if refusal == nil {
				t.Fatal("accepted")
			}
			if refusal.Status != tt.status || refusal.Cause != tt.cause {
				t.Fatalf("got %v, want %d %s", refusal, tt.status, tt.cause)
			}
			if strings.Contains(refusal.Message, secret) {
				t.Fatalf("the refusal tells the secret: %s", refusal.Message)
			}
		})
	}
}

// confuse signs with HS256 and the PEM text of the RSA key, which is public.
func confuse(t *testing.T, g *Gate) []byte {
	der, err := x509.MarshalPKIXPublicKey(g.keys["rs"].material)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	return sign(t, issuer{jwt.SigningMethodHS256, text}, m{"kid": "rs"}, m{"ten": "acme", "exp": at(time.Hour)})
}

func cutSignature(token []byte) []byte {
	parts := strings.Split(string(token), ".")
	return []byte(parts[0] + "." + parts[1] + "." + base64.RawURLEncoding.EncodeToString(nil))
}

func TestClaimsNarrowWhatATokenMayDo(t *testing.T) {
	gate, keys := keyring(t)
	tests := []struct {
		name    string
		claims  m
		allowed []string
		refused []string
	}{
		{"without jtn and jtnm: everything, and code of one's own", m{}, []string{"hello", "other", ""}, nil},
		{"jtn: one function", m{"jtn": "hello"}, []string{"hello"}, []string{"other", ""}},
		{"jtnm: some functions", m{"jtnm": []string{"a", "b"}}, []string{"a", "b"}, []string{"c", ""}},
		{"jtn and jtnm together", m{"jtn": "a", "jtnm": "b"}, []string{"a", "b"}, []string{"c", ""}},
		{"a regex over the whole name", m{"jtn": "/pub-.*/"}, []string{"pub-1"}, []string{"xpub-1", "pub", ""}},
		{"an empty list: nothing", m{"jtnm": []string{}}, nil, []string{"hello", ""}},
		{"a token that carries code: no function", m{"code": "module.exports = 1"}, nil, []string{"hello", ""}},
		{"a token that carries a url: no function", m{"url": "http://example"}, nil, []string{"hello", ""}},
		{"ten as a list", m{"ten": []string{"globex", "acme"}}, []string{"hello"}, nil},
		{"ten as a regex", m{"ten": "/ac.*/"}, []string{"hello"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			claims := m{"ten": "acme", "exp": at(time.Hour)}
			for k, v := range tt.claims {
				claims[k] = v
			}
			grant, refusal := gate.Check(sign(t, keys["hs"], nil, claims), now)
			if refusal != nil {
				t.Fatal(refusal)
			}
			for _, f := range tt.allowed {
				if refusal := grant.Allows(f); refusal != nil {
					t.Errorf("%q: %v", f, refusal)
				}
			}
			for _, f := range tt.refused {
				if grant.Allows(f) == nil {
					t.Errorf("%q was allowed", f)
				}
			}
		})
	}
}

func TestRememberedTokenStillExpires(t *testing.T) {
	gate, keys := keyring(t)
	token := sign(t, keys["hs"], nil, m{"ten": "acme", "exp": at(time.Minute)})
	if _, refusal := gate.Check(token, now); refusal != nil {
		t.Fatal(refusal)
	}
	if _, refusal := gate.Check(token, now.Add(2*time.Minute)); refusal == nil || refusal.Cause != causeExpired {
		t.Fatalf("got %v", refusal)
	}
}

func TestWithinTheClockSkewBothEndsAreAccepted(t *testing.T) {
	gate, keys := keyring(t)
	for name, claims := range map[string]m{
		"expired a moment ago":  {"ten": "acme", "exp": at(-clockSkew + time.Second)},
		"valid in a moment":     {"ten": "acme", "exp": at(time.Hour), "nbf": at(clockSkew - time.Second)},
		"issued in a moment":    {"ten": "acme", "exp": at(time.Hour), "iat": at(clockSkew - time.Second)},
		"times with a fraction": {"ten": "acme", "exp": float64(at(time.Hour)) + 0.5},
	} {
		if _, refusal := gate.Check(sign(t, keys["hs"], nil, claims), now); refusal != nil {
			t.Errorf("%s: %v", name, refusal)
		}
	}
}

func TestNoMoreThanABoundedNumberOfTokensIsRemembered(t *testing.T) {
	gate, keys := keyring(t)
	for i := range maxSeen + 50 {
		gate.Check(sign(t, keys["hs"], nil, m{"ten": "acme", "exp": at(time.Hour), "n": i}), now)
	}
	if n := len(gate.seen); n > maxSeen {
		t.Fatalf("%d tokens are remembered, at most %d", n, maxSeen)
	}
}

func FuzzCheck(f *testing.F) {
	gate, keys := keyring(f)
	good := sign(f, keys["hs"], nil, m{"ten": "acme", "exp": at(time.Hour)})
	f.Add(good)
	f.Add(cutSignature(good))
	parts := strings.Split(string(good), ".")
	for _, header := range []string{`{"alg":"none"}`, `{"alg":"HS256","alg":"HS256"}`, `{"alg":"HS256","crit":null}`, `{"alg":"ES256","kid":"es"}`, `null`, `[]`, ``} {
		f.Add([]byte(base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + parts[1] + "." + parts[2]))
	}
	for _, claims := range []string{`{"ten":"acme","ten":"acme","exp":1}`, `{"exp":1e300}`, `{"exp":"1"}`, `null`, `{}{}`, `{"ten":"/(/"}`} {
		f.Add([]byte(parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + "." + parts[2]))
	}
	f.Add([]byte(string(good) + "="))
	f.Add([]byte(string(good) + ".."))
	f.Fuzz(func(t *testing.T, token []byte) {
		if string(token) == string(good) {
			return
		}
		if _, refusal := gate.Check(token, now); refusal == nil {
			t.Fatalf("accepted %q", token)
		}
	})
}

// Whatever members takes, encoding/json takes too, and finds no other names.
func FuzzMembers(f *testing.F) {
	for _, text := range []string{`{}`, `{"a":1,"a":2}`, `{"a":1,"A":2}`, `{"\u0061":1,"a":2}`, `{"a":{"b":[1]}}`, `null`, `{"a":1}{}`, `{"a":1,}`, `{"a" 1}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		all, err := members(text)
		if err != nil {
			return
		}
		var want map[string]json.RawMessage
		if err := json.Unmarshal(text, &want); err != nil || !maps.EqualFunc(all, want, func(a, b json.RawMessage) bool { return string(a) == string(b) }) {
			t.Fatalf("%q: got %q, encoding/json has %q %v", text, all, want, err)
		}
	})
}

func BenchmarkCheckSeenToken(b *testing.B) {
	gate, keys := keyring(b)
	token := sign(b, keys["hs"], m{"kid": "hs"}, m{"ten": "acme", "exp": at(time.Hour)})
	b.ReportAllocs()
	for b.Loop() {
		gate.Check(token, now)
	}
}
