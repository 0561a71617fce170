package runner

import (
	"crypto"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"bulkhead/cluster"
	"bulkhead/internal/ectx"
)

// Causes of refused tokens.
const (
	causeNoToken      = "token_missing"
	causeBadToken     = "token_malformed"
	causeExpired      = "token_expired"
	causeEarly        = "token_not_yet_valid"
	causeForeign      = "token_foreign"
	causeWrongTenant  = "token_wrong_tenant"
	causeNotFunction  = "token_wrong_function"
	causeNotSupported = "token_unsupported"
	causeRevoked      = "token_revoked"
)

// clockSkew is how far the clocks of issuer and host may be apart.
const clockSkew = 5 * time.Second

// maxToken is the longest token that is looked at, in bytes.
const maxToken = 16 << 10

// Gate decides what a token may do. It is made for one tenant's keys; keys
// that change make a new Gate.
type Gate struct {
	tenant  string
	keys    map[string]key
	parser  *jwt.Parser
	revoked []cluster.Revocation
	seen    map[string]*Grant // verified tokens; the signature is checked once
}

// key is a [cluster.Key] that is ready to verify with.
type key struct {
	kid, alg string
	material crypto.PublicKey // []byte for HS256
}

// NewGate prepares a tenant's keys.
func NewGate(tenant string, keys []cluster.Key) (*Gate, error) {
	g := &Gate{tenant: tenant, keys: map[string]key{}, seen: map[string]*Grant{}}
	for _, k := range keys {
		material, err := parseKey(k)
		if err != nil {
			return nil, fmt.Errorf("cannot read key %q: %w", k.KID, err)
		}
		g.keys[k.KID] = key{kid: k.KID, alg: k.Alg, material: material}
	}
	g.parser = jwt.NewParser(
		jwt.WithValidMethods([]string{"HS256", "RS256", "ES256", "EdDSA"}),
		jwt.WithoutClaimsValidation(), // times are checked at each use, not once
		jwt.WithStrictDecoding(),
	)
	return g, nil
}

// Revoke has tokens refused that would be good otherwise: all of them at once,
// before the first is checked.
func (g *Gate) Revoke(all []cluster.Revocation) { g.revoked = all }

func parseKey(k cluster.Key) (crypto.PublicKey, error) {
	switch k.Alg {
	case "HS256":
		if len(k.Secret) < cluster.MinSecret {
			return nil, fmt.Errorf("its secret is %d bytes long, want at least %d: with none anybody could sign", len(k.Secret), cluster.MinSecret)
		}
		return []byte(k.Secret), nil
	case "RS256":
		return jwt.ParseRSAPublicKeyFromPEM([]byte(k.Public))
	case "ES256":
		return jwt.ParseECPublicKeyFromPEM([]byte(k.Public))
	case "EdDSA":
		return jwt.ParseEdPublicKeyFromPEM([]byte(k.Public))
	}
	return nil, fmt.Errorf("algorithm %q: want HS256, RS256, ES256 or EdDSA", k.Alg)
}

// Grant is what a verified token allows, and until when.
type Grant struct {
	Claims    []byte // the token's claims, as signed: JSON
	Params    []byte // pctx: JSON, nil when absent
	Secrets   []byte // ectx, opened: JSON, nil when absent
	functions *names // nil: all of the tenant's functions, and one-off code
	expires   time.Time
	notBefore time.Time
	issued    time.Time
	carries   string // a claim that carries code, which no function's call may
	id        string // jti
	limits    *cluster.LowerLimits
	container quota // of all the tenant's requests: with this token none beyond it
	own       quota // of those with this token
}

// maxSeen is how many verified tokens are remembered.
const maxSeen = 1024

// Check verifies a token: signature, times and tenant. It remembers tokens
// that it has verified, so a caller that sends the same one again is spared
// the signature; it must not be called by two goroutines at once.
func (g *Gate) Check(token []byte, now time.Time) (*Grant, *Refusal) {
	if len(token) == 0 {
		return nil, refuse(401, causeNoToken, "no token: send Authorization: Bearer TOKEN, or ?key=TOKEN, with a token signed by a key of tenant %q", g.tenant)
	}
	grant := g.seen[string(token)]
	if grant == nil {
		var refusal *Refusal
		if grant, refusal = g.verify(string(token)); refusal != nil {
			return nil, refusal
		}
		for k := range g.seen {
			if len(g.seen) < maxSeen {
				break
			}
			delete(g.seen, k)
		}
		g.seen[string(token)] = grant
	}
	return grant, grant.checkTimes(now)
}

// verify checks all of a token that does not change with time.
func (g *Gate) verify(token string) (*Grant, *Refusal) {
	if len(token) > maxToken {
		return nil, refuse(401, causeBadToken, "the token has %d bytes, at most %d are looked at", len(token), maxToken)
	}
	var c claims
	parsed, err := g.parser.ParseWithClaims(token, &c, g.keysFor)
	var refusal *Refusal
	switch {
	case errors.As(err, &refusal):
		return nil, refusal
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return nil, refuse(403, causeForeign, "the token's signature does not verify with the keys of tenant %q", g.tenant)
	case err != nil:
		return nil, refuse(401, causeBadToken, "the token cannot be read: %s", strings.TrimPrefix(err.Error(), "token is malformed: "))
	}
	return g.grant(parsed, &c)
}

// keysFor returns the key that the token's kid names, or without one every key
// of its algorithm. The key's own algorithm decides, never the token's.
func (g *Gate) keysFor(t *jwt.Token) (any, error) {
	alg := t.Method.Alg()
	if refusal := checkHeader(t); refusal != nil {
		return nil, refusal
	}
	if _, has := t.Header["crit"]; has {
		return nil, refuse(403, causeNotSupported, "the token's header has %q, which names nothing that is understood here", "crit")
	}
	kid, has := t.Header["kid"]
	if has {
		name, _ := kid.(string) // no key's name is empty
		k, ok := g.keys[name]
		switch {
		case !ok:
			return nil, refuse(403, causeForeign, "the token was not issued by tenant %q: it has no key %.64q", g.tenant, fmt.Sprint(kid))
		case k.alg != alg:
			return nil, refuse(403, causeForeign, "the token is signed with %s, but key %q of tenant %q is for %s", alg, k.kid, g.tenant, k.alg)
		}
		return k.material, nil
	}
	var set jwt.VerificationKeySet
	for _, k := range g.keys {
		if k.alg == alg {
			set.Keys = append(set.Keys, k.material)
		}
	}
	if len(set.Keys) == 0 {
		return nil, refuse(403, causeForeign, "the token is signed with %s, and tenant %q has no key for that", alg, g.tenant)
	}
	return set, nil
}

func (g *Gate) grant(t *jwt.Token, c *claims) (*Grant, *Refusal) {
	if c.ExpiresAt == nil {
		return nil, refuse(403, causeBadToken, "the token has no exp claim: tokens must expire")
	}
	if !c.Ten.has(g.tenant) {
		return nil, refuse(403, causeWrongTenant, "the token's ten claim does not name tenant %q", g.tenant)
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(t.Raw, ".")[1])
	if err != nil {
		return nil, refuse(401, causeBadToken, "the token's claims cannot be read: %v", err)
	}
	grant := &Grant{Claims: payload, Params: c.Params, functions: c.functions(), expires: c.ExpiresAt.Time, id: c.ID}
	grant.container, grant.own = quotaOfClaims(c.Container), quotaOfClaims(c.Token)
	if c.Limits != nil {
		grant.limits = &c.Limits.LowerLimits
	}
	if c.NotBefore != nil {
		grant.notBefore = c.NotBefore.Time
	}
	if c.IssuedAt != nil {
		grant.issued = c.IssuedAt.Time
	}
	switch {
	case c.Code != nil:
		grant.carries = "code"
	case c.URL != nil:
		grant.carries = "url"
	}
	if refusal := g.checkRevoked(t, grant); refusal != nil || c.Secrets == nil {
		return grant, refusal
	}
	var refusal *Refusal
	grant.Secrets, refusal = g.openSecrets(t, *c.Secrets)
	return grant, refusal
}

// openSecrets opens the secrets that were sealed into a token, with the key that
// signed it.
func (g *Gate) openSecrets(t *jwt.Token, claim string) (data []byte, refusal *Refusal) {
	kid, has := t.Header["kid"].(string)
	err := errors.New("is for a key that has a secret: HS256")
	for _, k := range g.keys {
		if secret, ok := k.material.([]byte); ok && t.Method.Alg() == k.alg && (!has || k.kid == kid) {
			if data, err = ectx.Open(string(secret), claim); err == nil {
				return data, nil
			}
		}
	}
	return nil, refuse(403, causeBadToken, "the token's ectx claim %v", err)
}

// checkRevoked refuses a token that was revoked. Whoever revokes makes a new
// gate, so what a gate has seen need not be looked at again.
func (g *Gate) checkRevoked(t *jwt.Token, grant *Grant) *Refusal {
	kid, _ := t.Header["kid"].(string)
	for _, r := range g.revoked {
		switch {
		case r.ID != "" && r.ID == grant.id, r.Sum != "" && r.Sum == sumOf(t.Raw):
			return refuse(401, causeRevoked, "the token has been revoked")
		case r.Before != 0 && grant.issued.Unix() <= r.Before && (r.KID == "" || kid == "" || kid == r.KID):
			return refuse(401, causeRevoked, "tokens issued up to %s have been revoked, and this one was or does not say (iat)", time.Unix(r.Before, 0).UTC().Format(time.RFC3339))
		}
	}
	return nil
}

// sumOf is [cluster.Revocation].Sum of a token. Its signature may have more than
// one form, what is signed has one.
func sumOf(token string) string {
	sum := sha256.Sum256([]byte(token[:strings.LastIndexByte(token, '.')]))
	return hex.EncodeToString(sum[:])
}

func (g *Grant) checkTimes(now time.Time) *Refusal {
	switch {
	case !now.Add(-clockSkew).Before(g.expires):
		return refuse(401, causeExpired, "the token expired at %s", g.expires.UTC().Format(time.RFC3339))
	case now.Add(clockSkew).Before(g.notBefore):
		return refuse(403, causeEarly, "the token is not valid before %s", g.notBefore.UTC().Format(time.RFC3339))
	case now.Add(clockSkew).Before(g.issued):
		return refuse(403, causeEarly, "the token was issued in the future, at %s", g.issued.UTC().Format(time.RFC3339))
	}
	return nil
}

// identity tells tokens apart: by their jti, or else by what they are.
func (g *Grant) identity(token []byte) string {
	if g.id != "" && len(g.id) <= 128 {
		return g.id
	}
	sum := sha256.Sum256(token)
	return string(sum[:16])
}

// Allows reports whether the token may call a function, or with an empty name
// run code that comes with the request.
func (g *Grant) Allows(function string) *Refusal {
	switch {
	case g.carries != "":
		return refuse(403, causeNotSupported, "the token carries a %s claim, so it can call no function", g.carries)
	case g.functions == nil:
		return nil
	case function == "":
		return refuse(403, causeNotFunction, "the token is for named functions only (jtn, jtnm); running code needs one without")
	case !g.functions.has(function):
		return refuse(403, causeNotFunction, "the token is not for function %q: its jtn and jtnm claims name others", function)
	}
	return nil
}
