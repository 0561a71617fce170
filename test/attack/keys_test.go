package attack

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"bulkhead/cluster"
)

const (
	acmeSecret   = "acme's own secret of 36 random bytes"
	globexSecret = "globex' own secret, 37 random bytes.."
	oldSecret    = "a secret that acme has taken back...."
)

// ring holds the tenants' private keys, and a token of the neighbour's.
type ring struct {
	rs     *rsa.PrivateKey
	es     *ecdsa.PrivateKey
	ed     ed25519.PrivateKey
	globex string
}

func newRing(t *testing.T) (k ring) {
	t.Helper()
	var err error
	if k.rs, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	if k.es, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	if _, k.ed, err = ed25519.GenerateKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	k.globex = token(`{"alg":"HS256","kid":"glx"}`, `{"ten":"globex","exp":4102444800}`, hs(globexSecret))
	return k
}

// acme are his keys as the cluster knows them.
func (k ring) acme() []cluster.Key {
	return []cluster.Key{
		{KID: "hs", Alg: "HS256", Secret: acmeSecret},
		{KID: "rs", Alg: "RS256", Public: public(k.rs.Public())},
		{KID: "es", Alg: "ES256", Public: public(k.es.Public())},
		{KID: "ed", Alg: "EdDSA", Public: public(k.ed.Public())},
	}
}

func public(key crypto.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// signer makes the signature of a token's first two parts.
type signer func(text string) []byte

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// token joins what no library would.
func token(header, claims string, sign signer) string {
	text := b64(header) + "." + b64(claims)
	return text + "." + b64(string(sign(text)))
}

func by(method jwt.SigningMethod, key any) signer {
	return func(text string) []byte {
		signature, err := method.Sign(text, key)
		if err != nil {
			panic(err)
		}
		return signature
	}
}

func hs(secret string) signer { return by(jwt.SigningMethodHS256, []byte(secret)) }

func fixed(signature string) signer { return func(string) []byte { return []byte(signature) } }

// certificate is what the proxy shows its clients.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "site"}, DNSNames: []string{"*.example.org"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(t.TempDir(), "cert"), filepath.Join(t.TempDir(), "key")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}
