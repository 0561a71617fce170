package attack

import (
	"bytes"
	"compress/flate"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// tokenAttack is a token that must be refused, or that is odd and sound.
type tokenAttack struct {
	attack string
	token  func(k ring) string
	want   string
}

// good are claims that acme's token may have; header names his HS256 key.
const (
	good   = `{"ten":"acme","exp":4102444800}`
	header = `{"alg":"HS256","kid":"hs"}`
)

// withHeader is acme's own signature under another header.
func withHeader(header string) func(ring) string {
	return func(ring) string { return token(header, good, hs(acmeSecret)) }
}

// withClaims is acme's own signature under other claims.
func withClaims(claims string) func(ring) string {
	return func(ring) string { return token(header, claims, hs(acmeSecret)) }
}

// withKID is acme's secret under another key's name.
func withKID(kid string) func(ring) string {
	return withHeader(fmt.Sprintf(`{"alg":"HS256","kid":%s}`, kid))
}

// mangled is a sound token with its text changed.
func mangled(change func(string) string) func(ring) string {
	return func(ring) string { return change(token(header, good, hs(acmeSecret))) }
}

func signed(header string, sign func(ring) signer) func(ring) string {
	return func(k ring) string { return token(header, good, sign(k)) }
}

func claimsIn(d time.Duration, claim string) func(ring) string {
	return func(k ring) string {
		return withClaims(fmt.Sprintf(`{"ten":"acme","exp":4102444800,%q:%d}`, claim, time.Now().Add(d).Unix()))(k)
	}
}

func part(token string, i int) string { return strings.Split(token, ".")[i] }

func (s *site) tokenAttacks() []tokenAttack {
	return []tokenAttack{
		{"a sound token, for comparison: HS256", withHeader(header), "200; the request behind it is answered"},
		{"a sound token: RS256", signed(`{"alg":"RS256","kid":"rs"}`, func(k ring) signer { return by(jwt.SigningMethodRS256, k.rs) }), "200; the request behind it is answered"},
		{"a sound token: ES256", signed(`{"alg":"ES256","kid":"es"}`, func(k ring) signer { return by(jwt.SigningMethodES256, k.es) }), "200; the request behind it is answered"},
		{"a sound token: EdDSA", signed(`{"alg":"EdDSA","kid":"ed"}`, func(k ring) signer { return by(jwt.SigningMethodEdDSA, k.ed) }), "200; the request behind it is answered"},

		{"no token", func(ring) string { return "" }, "401 token_missing; the request behind it is answered"},
		{"another tenant's token, as he uses it", func(k ring) string { return k.globex }, "403 token_foreign; the request behind it is answered"},
		{"another tenant's key under this tenant's `kid`", func(ring) string { return token(header, good, hs(globexSecret)) }, "403 token_foreign; the request behind it is answered"},
		{"another tenant's key without `kid`", func(ring) string { return token(`{"alg":"HS256"}`, good, hs(globexSecret)) }, "403 token_foreign; the request behind it is answered"},
		{"this tenant's key, `ten` names another", withClaims(`{"ten":"globex","exp":4102444800}`), "403 token_wrong_tenant; the request behind it is answered"},
		{"`ten` missing", withClaims(`{"exp":4102444800}`), "403 token_wrong_tenant; the request behind it is answered"},
		{"`ten` is a pattern that fits only a part of the name", withClaims(`{"ten":"/cme|x/","exp":4102444800}`), "403 token_wrong_tenant; the request behind it is answered"},
		{"`ten` is in other letters", withClaims(`{"ten":"ACME","exp":4102444800}`), "403 token_wrong_tenant; the request behind it is answered"},
		{"`ten` has a NUL behind the name", withClaims(`{"ten":"acme\u0000","exp":4102444800}`), "403 token_wrong_tenant; the request behind it is answered"},
		{"`ten` has a letter that looks like one of the name", withClaims(`{"ten":"аcme","exp":4102444800}`), "403 token_wrong_tenant; the request behind it is answered"},
		{"`ten` is null", withClaims(`{"ten":null,"exp":4102444800}`), "403 token_wrong_tenant; the request behind it is answered"},
		{"`ten` is a pattern that would take a backtracking matcher for ever", withClaims(`{"ten":"/(a+)+$|((a*)*)*b/","exp":4102444800}`), "403 token_wrong_tenant; the request behind it is answered"},

		{"`alg: none`, no signature", signed(`{"alg":"none"}`, func(ring) signer { return fixed("") }), "403 token_foreign; the request behind it is answered"},
		{"`alg: NONE`", signed(`{"alg":"NONE"}`, func(ring) signer { return fixed("") }), "401 token_malformed; the request behind it is answered"},
		{"`alg: nOnE`", signed(`{"alg":"nOnE"}`, func(ring) signer { return fixed("") }), "401 token_malformed; the request behind it is answered"},
		{"`alg: none` with a sound HMAC and `kid`", signed(`{"alg":"none","kid":"hs"}`, func(ring) signer { return hs(acmeSecret) }), "403 token_foreign; the request behind it is answered"},
		{"`alg` empty", signed(`{"alg":""}`, func(ring) signer { return fixed("") }), "401 token_malformed; the request behind it is answered"},
		{"`alg` missing", signed(`{"kid":"hs"}`, func(ring) signer { return hs(acmeSecret) }), "401 token_malformed; the request behind it is answered"},
		{"`alg` null", signed(`{"alg":null,"kid":"hs"}`, func(ring) signer { return hs(acmeSecret) }), "401 token_malformed; the request behind it is answered"},
		{"`alg` a list", signed(`{"alg":["HS256"],"kid":"hs"}`, func(ring) signer { return hs(acmeSecret) }), "401 token_malformed; the request behind it is answered"},
		{"`alg: hs256`", signed(`{"alg":"hs256","kid":"hs"}`, func(ring) signer { return hs(acmeSecret) }), "401 token_malformed; the request behind it is answered"},
		{"`alg: HS512` with this tenant's secret", signed(`{"alg":"HS512","kid":"hs"}`, func(ring) signer { return by(jwt.SigningMethodHS512, []byte(acmeSecret)) }), "403 token_foreign; the request behind it is answered"},
		{"`alg: PS256` with this tenant's RSA key", signed(`{"alg":"PS256","kid":"rs"}`, func(k ring) signer { return by(jwt.SigningMethodPS256, k.rs) }), "403 token_foreign; the request behind it is answered"},
		{"HS256 with the RSA public key's PEM as the secret, its `kid`", signed(`{"alg":"HS256","kid":"rs"}`, func(k ring) signer { return hs(public(k.rs.Public())) }), "403 token_foreign; the request behind it is answered"},
		{"the same without `kid`", signed(`{"alg":"HS256"}`, func(k ring) signer { return hs(public(k.rs.Public())) }), "403 token_foreign; the request behind it is answered"},
		{"HS256 with the Ed25519 public key's PEM as the secret", signed(`{"alg":"HS256","kid":"ed"}`, func(k ring) signer { return hs(public(k.ed.Public())) }), "403 token_foreign; the request behind it is answered"},
		{"RS256 header, HMAC with the HS256 secret", signed(`{"alg":"RS256","kid":"hs"}`, func(ring) signer { return hs(acmeSecret) }), "403 token_foreign; the request behind it is answered"},
		{"RS256 header for the HS256 key, signed by the RSA key", signed(`{"alg":"RS256","kid":"hs"}`, func(k ring) signer { return by(jwt.SigningMethodRS256, k.rs) }), "403 token_foreign; the request behind it is answered"},

		{"signature stripped", signed(header, func(ring) signer { return fixed("") }), "403 token_foreign; the request behind it is answered"},
		{"signature and its dot stripped", mangled(func(s string) string { return s[:strings.LastIndex(s, ".")] }), "401 token_malformed; the request behind it is answered"},
		{"signature of another token with the same key", func(ring) string {
			other := token(header, `{"ten":"acme","exp":4102444800,"jtn":"echo"}`, hs(acmeSecret))
			return part(token(header, good, hs(acmeSecret)), 0) + "." + b64(good) + "." + part(other, 2)
		}, "403 token_foreign; the request behind it is answered"},
		{"claims changed, signature kept", func(ring) string {
			own := token(header, `{"ten":"acme","exp":4102444800,"jtn":"hello"}`, hs(acmeSecret))
			return part(own, 0) + "." + b64(good) + "." + part(own, 2)
		}, "403 token_foreign; the request behind it is answered"},
		{"signature with one bit turned", mangled(func(s string) string {
			raw, _ := base64.RawURLEncoding.DecodeString(part(s, 2))
			raw[0] ^= 1
			return part(s, 0) + "." + part(s, 1) + "." + b64(string(raw))
		}), "403 token_foreign; the request behind it is answered"},
		{"HMAC cut to 16 bytes", signed(header, func(ring) signer { return func(t string) []byte { return hs(acmeSecret)(t)[:16] } }), "403 token_foreign; the request behind it is answered"},
		{"HMAC with an empty secret", signed(header, func(ring) signer { return hs("") }), "403 token_foreign; the request behind it is answered"},
		{"SHA-256 in place of the HMAC", signed(header, func(ring) signer {
			return func(t string) []byte { sum := sha256.Sum256([]byte(t)); return sum[:] }
		}), "403 token_foreign; the request behind it is answered"},
		{"ES256 with r = s = 0", signed(`{"alg":"ES256","kid":"es"}`, func(ring) signer { return fixed(strings.Repeat("\x00", 64)) }), "403 token_foreign; the request behind it is answered"},
		{"ES256 with r = 1, s = n", signed(`{"alg":"ES256","kid":"es"}`, func(k ring) signer {
			return fixed(strings.Repeat("\x00", 31) + "\x01" + string(k.es.Params().N.Bytes()))
		}), "403 token_foreign; the request behind it is answered"},
		{"ES256, its sound signature as DER", signed(`{"alg":"ES256","kid":"es"}`, func(k ring) signer {
			return func(t string) []byte {
				sum := sha256.Sum256([]byte(t))
				der, _ := ecdsa.SignASN1(rand.Reader, k.es, sum[:])
				return der
			}
		}), "403 token_foreign; the request behind it is answered"},
		{"EdDSA with 64 bytes of 0", signed(`{"alg":"EdDSA","kid":"ed"}`, func(ring) signer { return fixed(strings.Repeat("\x00", 64)) }), "403 token_foreign; the request behind it is answered"},
		{"RS256 with 256 bytes of 0", signed(`{"alg":"RS256","kid":"rs"}`, func(ring) signer { return fixed(strings.Repeat("\x00", 256)) }), "403 token_foreign; the request behind it is answered"},

		{"`kid` of a key that was revoked", func(ring) string { return token(`{"alg":"HS256","kid":"old"}`, good, hs(oldSecret)) }, "403 token_foreign; the request behind it is answered"},
		{"a revoked key without `kid`", func(ring) string { return token(`{"alg":"HS256"}`, good, hs(oldSecret)) }, "403 token_foreign; the request behind it is answered"},
		{"`kid` that nobody has", withKID(`"nobody"`), "403 token_foreign; the request behind it is answered"},
		{"`kid` of another tenant's key", func(ring) string { return token(`{"alg":"HS256","kid":"glx"}`, good, hs(globexSecret)) }, "403 token_foreign; the request behind it is answered"},
		{"`kid: ../../../../dev/null`, signed with nothing", func(ring) string { return token(`{"alg":"HS256","kid":"../../../../dev/null"}`, good, hs("")) }, "403 token_foreign; the request behind it is answered"},
		{"`kid: /dev/null`", func(ring) string { return token(`{"alg":"HS256","kid":"/dev/null"}`, good, hs("")) }, "403 token_foreign; the request behind it is answered"},
		{"`kid` is a path to the key", withKID(`"./hs"`), "403 token_foreign; the request behind it is answered"},
		{"`kid` with SQL", withKID(`"x' UNION SELECT 'secret' -- "`), "403 token_foreign; the request behind it is answered"},
		{"`kid` with a command", withKID(`"hs; cat /etc/passwd"`), "403 token_foreign; the request behind it is answered"},
		{"`kid` with a NUL behind a key's name", withKID(`"hs\u0000"`), "403 token_foreign; the request behind it is answered"},
		{"`kid` in other letters", withKID(`"HS"`), "403 token_foreign; the request behind it is answered"},
		{"`kid` empty", withKID(`""`), "403 token_foreign; the request behind it is answered"},
		{"`kid` of 8 KiB", withKID(`"` + strings.Repeat("k", 8<<10) + `"`), "403 token_foreign; the request behind it is answered"},
		{"`kid` null", withKID(`null`), "403 token_foreign; the request behind it is answered"},
		{"`kid` a number", withKID(`7`), "403 token_foreign; the request behind it is answered"},
		{"`kid` a list with a key's name", withKID(`["hs"]`), "403 token_foreign; the request behind it is answered"},

		{"`alg` twice, the last one sound", withHeader(`{"alg":"none","alg":"HS256","kid":"hs"}`), "401 token_malformed; the request behind it is answered"},
		{"`kid` twice, the last one sound", withHeader(`{"alg":"HS256","kid":"nobody","kid":"hs"}`), "401 token_malformed; the request behind it is answered"},
		{"`ten` twice, the last one sound", withClaims(`{"ten":"globex","ten":"acme","exp":4102444800}`), "401 token_malformed; the request behind it is answered"},
		{"`ten` twice, the first one sound", withClaims(`{"ten":"acme","ten":"globex","exp":4102444800}`), "401 token_malformed; the request behind it is answered"},
		{"`exp` twice, once past", withClaims(`{"ten":"acme","exp":1,"exp":4102444800}`), "401 token_malformed; the request behind it is answered"},
		{"`ten` twice, once written with an escape", withClaims(`{"\u0074en":"globex","ten":"acme","exp":4102444800}`), "401 token_malformed; the request behind it is answered"},
		{"`TEN` beside `ten`", withClaims(`{"ten":"globex","TEN":"acme","exp":4102444800}`), "403 token_wrong_tenant; the request behind it is answered"},
		{"`EXP` in place of `exp`", withClaims(`{"ten":"acme","EXP":4102444800}`), "403 token_malformed; the request behind it is answered"},
		{"`JTN` that a careless reader takes for `jtn`", withClaims(`{"ten":"acme","exp":4102444800,"jtn":"hello","JTN":"echo"}`), "403 token_wrong_function; the request behind it is answered"},
		{"the same member twice within a claim of the tenant's own", withClaims(`{"ten":"acme","exp":4102444800,"pctx":{"a":1,"a":2}}`), "200; the request behind it is answered"},

		{"a token over 16 KiB", withClaims(`{"ten":"acme","exp":4102444800,"x":"` + strings.Repeat("x", 13<<10) + `"}`), "401 token_malformed; the request behind it is answered"},
		{"a token of 12 KiB: no limit is crossed", withClaims(`{"ten":"acme","exp":4102444800,"x":"` + strings.Repeat("x", 8<<10) + `"}`), "200; the request behind it is answered"},
		{"1000 claims", withClaims(`{"ten":"acme","exp":4102444800` + numbered(1000) + `}`), "200; the request behind it is answered"},
		{"claims 5000 levels deep", withClaims(`{"ten":"acme","exp":4102444800,"x":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `}`), "200; the request behind it is answered"},
		{"a nested token (`cty: JWT`)", func(ring) string {
			return token(`{"alg":"HS256","kid":"hs","cty":"JWT"}`, token(header, good, hs(acmeSecret)), hs(acmeSecret))
		}, "401 token_malformed; the request behind it is answered"},
		{"compressed claims (`zip: DEF`)", func(ring) string {
			var b bytes.Buffer
			w, _ := flate.NewWriter(&b, 9)
			w.Write([]byte(good))
			w.Close()
			return token(`{"alg":"HS256","kid":"hs","zip":"DEF"}`, b.String(), hs(acmeSecret))
		}, "401 token_malformed; the request behind it is answered"},
		{"a JWE, of five parts", func(ring) string {
			return b64(`{"alg":"dir","enc":"A256GCM"}`) + ".." + b64("twelve bytes") + "." + b64(good) + "." + b64("sixteen bytes tag")
		}, "401 token_malformed; the request behind it is answered"},
		{"a JWE whose header says HS256 too", func(ring) string {
			return token(`{"alg":"HS256","kid":"hs","enc":"A256GCM"}`, good, hs(acmeSecret)) + "." + b64("x") + "." + b64("y")
		}, "401 token_malformed; the request behind it is answered"},
		{"a JWS as JSON", func(ring) string {
			return fmt.Sprintf(`{"payload":%q,"protected":%q,"signature":"x"}`, b64(good), b64(header))
		}, "401 token_malformed; the request behind it is answered"},
		{"claims that are a list", withClaims(`[` + good + `]`), "401 token_malformed; the request behind it is answered"},
		{"claims that are null", withClaims(`null`), "403 token_malformed; the request behind it is answered"},
		{"something behind the claims", withClaims(good + `{}`), "401 token_malformed; the request behind it is answered"},
		{"a header that is null", func(ring) string { return token(`null`, good, hs(acmeSecret)) }, "401 token_malformed; the request behind it is answered"},

		{"`exp` missing", withClaims(`{"ten":"acme"}`), "403 token_malformed; the request behind it is answered"},
		{"`exp` null", withClaims(`{"ten":"acme","exp":null}`), "403 token_malformed; the request behind it is answered"},
		{"`exp` 0", withClaims(`{"ten":"acme","exp":0}`), "401 token_expired; the request behind it is answered"},
		{"`exp` negative", withClaims(`{"ten":"acme","exp":-4102444800}`), "401 token_expired; the request behind it is answered"},
		{"`exp` is text of digits", withClaims(`{"ten":"acme","exp":"4102444800"}`), "401 token_malformed; the request behind it is answered"},
		{"`exp` is a date", withClaims(`{"ten":"acme","exp":"2100-01-01T00:00:00Z"}`), "401 token_malformed; the request behind it is answered"},
		{"`exp` true", withClaims(`{"ten":"acme","exp":true}`), "401 token_malformed; the request behind it is answered"},
		{"`exp` with a fraction: sound (RFC 7519, section 2)", withClaims(`{"ten":"acme","exp":4102444800.5}`), "200; the request behind it is answered"},
		{"`exp` 1e300", withClaims(`{"ten":"acme","exp":1e300}`), "401 token_malformed; the request behind it is answered"},
		{"`exp` 1e999", withClaims(`{"ten":"acme","exp":1e999}`), "401 token_malformed; the request behind it is answered"},
		{"`exp` 2^63", withClaims(`{"ten":"acme","exp":9223372036854775808}`), "401 token_malformed; the request behind it is answered"},
		{"`exp` in milliseconds: the year 131970", withClaims(`{"ten":"acme","exp":4102444800000}`), "401 token_malformed; the request behind it is answered"},
		{"`exp` NaN", withClaims(`{"ten":"acme","exp":NaN}`), "401 token_malformed; the request behind it is answered"},
		{"`exp` 5 s ago", func(k ring) string {
			return withClaims(fmt.Sprintf(`{"ten":"acme","exp":%d}`, time.Now().Unix()-5))(k)
		}, "401 token_expired; the request behind it is answered"},
		{"`nbf` in a minute", claimsIn(time.Minute, "nbf"), "403 token_not_yet_valid; the request behind it is answered"},
		{"`iat` in a minute", claimsIn(time.Minute, "iat"), "403 token_not_yet_valid; the request behind it is answered"},
		{"`nbf` 1e300, which overflows into the past", withClaims(`{"ten":"acme","exp":4102444800,"nbf":1e300}`), "401 token_malformed; the request behind it is answered"},
		{"`iat` 1e300", withClaims(`{"ten":"acme","exp":4102444800,"iat":1e300}`), "401 token_malformed; the request behind it is answered"},
		{"`nbf` is text", withClaims(`{"ten":"acme","exp":4102444800,"nbf":"1"}`), "401 token_malformed; the request behind it is answered"},

		{"`crit: [exp]`", withHeader(`{"alg":"HS256","kid":"hs","crit":["exp"],"exp":1}`), "403 token_unsupported; the request behind it is answered"},
		{"`crit` null", withHeader(`{"alg":"HS256","kid":"hs","crit":null}`), "403 token_unsupported; the request behind it is answered"},
		{"`crit` an empty list", withHeader(`{"alg":"HS256","kid":"hs","crit":[]}`), "403 token_unsupported; the request behind it is answered"},
		{"`b64: false` with `crit`", withHeader(`{"alg":"HS256","kid":"hs","b64":false,"crit":["b64"]}`), "403 token_unsupported; the request behind it is answered"},
		{"`b64: false`, the claims signed as they are", func(ring) string {
			h := b64(`{"alg":"HS256","kid":"hs","b64":false}`)
			return h + "." + b64(good) + "." + b64(string(hs(acmeSecret)(h+"."+good)))
		}, "403 token_foreign; the request behind it is answered"},
		{"`jwk` with the attacker's key", signed(`{"alg":"HS256","jwk":{"kty":"oct","k":"`+b64(oldSecret)+`"}}`, func(ring) signer { return hs(oldSecret) }), "403 token_foreign; the request behind it is answered"},
		{"`jku` to the attacker's server", s.lured("jku"), "403 token_foreign; the request behind it is answered"},
		{"`x5u` to the attacker's server", s.lured("x5u"), "403 token_foreign; the request behind it is answered"},
		{"`jku` beside a sound `kid` and signature: not looked at", withHeader(`{"alg":"HS256","kid":"hs","jku":"http://` + s.lure.Addr().String() + `/"}`), "200; the request behind it is answered"},
		{"`x5c` with the attacker's certificate", signed(`{"alg":"RS256","kid":"rs","x5c":["`+b64("der")+`"]}`, func(ring) signer { return fixed(strings.Repeat("\x01", 256)) }), "403 token_foreign; the request behind it is answered"},

		{"base64 with padding", mangled(func(s string) string { return part(s, 0) + "." + part(s, 1) + "." + part(s, 2) + "=" }), "401 token_malformed; the request behind it is answered"},
		{"base64 in the other alphabet", mangled(func(string) string {
			t := token(header, `{"ten":"acme","exp":4102444800,"x":"???>>>"}`, hs(acmeSecret))
			return part(t, 0) + "." + strings.NewReplacer("-", "+", "_", "/").Replace(part(t, 1)) + "." + part(t, 2)
		}), "401 token_malformed; the request behind it is answered"},
		{"base64 with other trailing bits, the same signature", mangled(trailingBits), "401 token_malformed; the request behind it is answered"},
		{"a line's end within the signature", mangled(func(s string) string { return s[:len(s)-4] + "\n" + s[len(s)-4:] }), "400 bad_request; closed"},
		{"a space within the token", mangled(func(s string) string { return s[:20] + " " + s[20:] }), "401 token_malformed; the request behind it is answered"},
		{"a no-break space behind the token", mangled(func(s string) string { return s + "\u00a0" }), "401 token_malformed; the request behind it is answered"},
		{"a byte that is no UTF-8 within the token", mangled(func(s string) string { return s[:20] + "\xff" + s[20:] }), "401 token_malformed; the request behind it is answered"},
		{"a zero-width space before the token", mangled(func(s string) string { return "\u200b" + s }), "401 token_malformed; the request behind it is answered"},
		{"a NUL within the token", mangled(func(s string) string { return s[:20] + "\x00" + s[20:] }), "400 bad_request; closed"},
		{"two tokens with a comma", mangled(func(s string) string { return s + "," + s }), "401 token_malformed; the request behind it is answered"},
		{"only dots", mangled(func(string) string { return ".." }), "401 token_malformed; the request behind it is answered"},
		{"10,000 dots", mangled(func(string) string { return strings.Repeat(".", 10_000) }), "401 token_malformed; the request behind it is answered"},
	}
}

func numbered(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"c%d":1`, i)
	}
	return b.String()
}

// trailingBits sets bits of the last character that no byte needs.
func trailingBits(s string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	i := strings.IndexByte(alphabet, s[len(s)-1])
	return s[:len(s)-1] + string(alphabet[i|1])
}

// lured is a token of the attacker's that names where its key is to be had.
func (s *site) lured(member string) func(ring) string {
	h := fmt.Sprintf(`{"alg":"HS256",%q:"http://%s/keys"}`, member, s.lure.Addr())
	return signed(h, func(ring) signer { return hs(oldSecret) })
}

func TestEveryAttackOnTokens(t *testing.T) {
	s := newSite(t)
	var rows []row
	for _, a := range s.tokenAttacks() {
		t.Run(a.attack, func(t *testing.T) {
			raw := "GET /acme/echo/x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + a.token(s.keys) + "\r\n\r\n"
			rows = append(rows, s.try(t, a.attack, raw+s.neighbour(), a.want, false))
		})
	}
	for _, a := range s.tokenPlaces() {
		t.Run(a.attack, func(t *testing.T) {
			rows = append(rows, s.try(t, a.attack, "GET "+a.token(s.keys)+"\r\n\r\n"+s.neighbour(), a.want, false))
		})
	}
	s.fetched(t)
	compare(t, "tokens", rows)
}

// tokenPlaces are requests with tokens where they should not be: the target
// and all headers.
func (s *site) tokenPlaces() []tokenAttack {
	own, foreign := token(header, good, hs(acmeSecret)), s.keys.globex
	at := func(line string) func(ring) string { return func(ring) string { return line } }
	return []tokenAttack{
		{"a foreign token in the header, a sound one in the query: the header's counts", at("/acme/echo?key=" + own + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + foreign), "403 token_foreign; the request behind it is answered"},
		{"a sound token in the header, a foreign one in the query", at("/acme/echo?key=" + foreign + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + own), "200; the request behind it is answered"},
		{"`key` twice in the query, the first one foreign", at("/acme/echo?key=" + foreign + "&key=" + own + " HTTP/1.1\r\nHost: x"), "403 token_foreign; the request behind it is answered"},
		{"`Authorization` twice, the first one foreign", at("/acme/echo HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + foreign + "\r\nAuthorization: Bearer " + own), "403 token_foreign; the request behind it is answered"},
		{"`Authorization: Basic` with a sound token", at("/acme/echo HTTP/1.1\r\nHost: x\r\nAuthorization: Basic " + own), "401 token_missing; the request behind it is answered"},
		{"`Authorization: Bearer` and nothing", at("/acme/echo HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "), "401 token_missing; the request behind it is answered"},
		{"the token in a cookie", at("/acme/echo HTTP/1.1\r\nHost: x\r\nCookie: key=" + own), "401 token_missing; the request behind it is answered"},
		{"the token behind a `#`", at("/acme/echo#?key=" + own + " HTTP/1.1\r\nHost: x"), "400 bad_target; closed"},
		{"`X-Bulkhead-Claims`, as if the platform had checked", at("/acme/echo HTTP/1.1\r\nHost: x\r\nX-Bulkhead-Claims: " + good + "\r\nX-Bulkhead-Tenant: acme"), "401 token_missing; the request behind it is answered"},
	}
}
