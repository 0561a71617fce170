package cluster

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Algs are the algorithms a key may be pinned to.
var Algs = []string{"HS256", "RS256", "ES256", "EdDSA"}

// MinSecret is the least length of an HS256 secret in bytes (RFC 7518,
// section 3.2).
const MinSecret = 32

// minRSA is the least size of an RSA key in bits (RFC 7518, section 3.3).
const minRSA = 2048

var kidPattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_.:-]{0,62}[A-Za-z0-9])?$`)

func (r *reader) keys(path string, n node, keys *[]Key) {
	seen := map[string]bool{}
	r.list(maxKeys, func(path string, n node) {
		k, good := r.key(path, n)
		if good && seen[k.KID] {
			r.wrong(path+".kid", show(k.KID)+"is used by an earlier key", "want every kid once")
		}
		seen[k.KID] = true
		*keys = append(*keys, k)
	})(path, n)
	if n.kind == "list" && len(n.items) == 0 {
		r.wrong(path, "is empty", "want at least one key")
	}
}

// key reads one key; good says that it has a kid.
func (r *reader) key(path string, n node) (k Key, good bool) {
	before := len(r.problems)
	r.object(path, n,
		field{"kid", r.text(&k.KID)},
		field{"alg", r.text(&k.Alg)},
		field{"secret", r.text(&k.Secret)},
		field{"sealed", r.text(&k.Sealed)},
		field{"public", r.text(&k.Public)},
	)
	if n.kind != "object" {
		return k, false
	}
	good = kidPattern.MatchString(k.KID)
	if len(r.problems) > before {
		return k, good
	}
	switch {
	case !hasMember(n, "kid"):
		r.wrong(path+".kid", "is missing", `want a short name for the key, like "2026-11"`)
	case !good:
		r.wrong(path+".kid", "is no key's name", "want 1 to 64 letters, digits, _ . : and -, starting and ending with a letter or digit")
	}
	r.material(path, k)
	return k, good
}

// material checks that the key's algorithm is known and comes with what it
// needs and nothing else.
func (r *reader) material(path string, k Key) {
	switch {
	case k.Alg == "":
		r.wrong(path+".alg", "is missing", "want "+strings.Join(Algs, ", "))
	case !slices.Contains(Algs, k.Alg):
		r.wrong(path+".alg", "is no algorithm we take", "want "+strings.Join(Algs, ", ")+", as written here")
	case k.Alg == "HS256" && k.Public != "":
		r.wrong(path+".public", "does not belong to an HS256 key", "want secret only")
	case k.Alg == "HS256" && k.Sealed != "" && k.Secret != "":
		r.wrong(path+".sealed", "is there beside secret", "want one of them: sealed is made of secret")
	case k.Alg == "HS256" && k.Sealed != "":
		r.sealed(path+".sealed", k.Sealed)
	case k.Alg == "HS256" && len(k.Secret) < MinSecret:
		r.wrong(path+".secret", fmt.Sprintf("is %d bytes long", len(k.Secret)),
			fmt.Sprintf("want at least %d random ones, as from: openssl rand -base64 %d", MinSecret, MinSecret))
	case k.Alg == "HS256" && strings.Contains(k.Secret, "-----BEGIN "):
		r.wrong(path+".secret", "is a PEM block, as of a public key, which is no secret", "want random bytes, as from: openssl rand -base64 32")
	case k.Alg == "HS256":
	case k.Secret != "" || k.Sealed != "":
		r.wrong(path+"."+map[bool]string{true: "secret", false: "sealed"}[k.Secret != ""], "does not belong to an "+k.Alg+" key", "want public only: the cluster needs no secret of yours")
	default:
		if _, err := ParsePublic(k.Alg, k.Public); err != nil {
			r.wrong(path+".public", err.Error(), "want a PEM public key for "+k.Alg+", as from: openssl pkey -in private.pem -pubout")
		}
	}
}

// sealedPattern is base64 for URLs without padding (RFC 4648, section 5), long
// enough for a sealed secret: a header, a point, a tag.
var sealedPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{71,}$`)

// sealed checks what can be seen of a sealed text without the key that opens it.
func (r *reader) sealed(path, text string) {
	if !sealedPattern.MatchString(text) {
		r.wrong(path, "is no sealed text", "want one that bulkhead made; what is not sealed yet goes into secret, or secrets")
	}
}

// ParsePublic reads the PEM public key of an RS256 (RSA of at least 2048
// bits), ES256 (P-256) or EdDSA (Ed25519) key: an *rsa.PublicKey, an
// *ecdsa.PublicKey or an ed25519.PublicKey. Its errors quote nothing of the
// text.
func ParsePublic(alg, text string) (any, error) {
	block, rest := pem.Decode([]byte(text))
	switch {
	case text == "":
		return nil, errors.New("is missing")
	case strings.Contains(text, "PRIVATE KEY"):
		return nil, errors.New("holds a private key, which must never be given to anyone: make a new pair, keep its private half to yourself")
	case block == nil:
		return nil, errors.New("is no PEM")
	case block.Type != "PUBLIC KEY":
		return nil, errors.New(`is PEM, but not of a "PUBLIC KEY"`)
	case strings.TrimSpace(string(rest)) != "":
		return nil, errors.New("has something after the PEM block")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, errors.New("is PEM, but no public key is in it")
	}
	return key, fits(alg, key)
}

// fits says whether the key can be used with the algorithm.
func fits(alg string, key any) error {
	switch k := key.(type) {
	case *rsa.PublicKey:
		if alg == "RS256" && k.N.BitLen() < minRSA {
			return fmt.Errorf("is an RSA key of %d bits, fewer than %d", k.N.BitLen(), minRSA)
		}
		if alg == "RS256" && (k.E < 3 || k.E%2 == 0) {
			return fmt.Errorf("is an RSA key with the exponent %d, for which signatures can be forged: want an odd one of at least 3, like 65537", k.E)
		}
		return match(alg, "RS256", "an RSA key")
	case *ecdsa.PublicKey:
		if alg == "ES256" && k.Curve != elliptic.P256() {
			return errors.New("is an EC key, but not on the curve P-256")
		}
		return match(alg, "ES256", "an EC key")
	case ed25519.PublicKey:
		if alg == "EdDSA" && smallOrder(k) {
			return errors.New("is an Ed25519 key of small order, for which anybody can sign")
		}
		return match(alg, "EdDSA", "an Ed25519 key")
	default:
		return errors.New("is a public key of a kind we don't take")
	}
}

func match(alg, want, kind string) error {
	if alg != want {
		return fmt.Errorf("is %s, which goes with %s, not %s", kind, want, alg)
	}
	return nil
}
