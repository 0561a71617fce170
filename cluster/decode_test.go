package cluster

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"reflect"
	"slices"
	"strings"
	"testing"
)

const secret = "0123456789abcdef0123456789abcdef"

const goodKey = `{"kid":"a","alg":"HS256","secret":"` + secret + `"}`

// spec is a good spec with more members.
func spec(more string) string {
	if more != "" {
		more = "," + more
	}
	return `{"keys":[` + goodKey + `]` + more + `}`
}

func TestDefaults(t *testing.T) {
	got, problems := DecodeSpec("acme", []byte(spec("")))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	want := DefaultSpec()
	want.Keys = []Key{{KID: "a", Alg: "HS256", Secret: secret}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
	// What one writes of it can be read again.
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if again, problems := DecodeSpec("acme", data); Invalid(problems) != nil || !reflect.DeepEqual(again, want) {
		t.Errorf("%s\nread again: %+v, %v", data, again, problems)
	}
}

func TestDecodeSpecFull(t *testing.T) {
	got, problems := DecodeSpec("acme", []byte(`{"name":"acme","keys":[`+goodKey+`],
		"replicas":{"min":2,"max":8,"concurrency":5},"resources":{"memory":"1GiB","cpu":2,"pids":128,"tmp":"100MB"},
		"limits":{"block":"250ms","wall":"2m","body":"10MiB","code":"64KiB","rate":0.5,"concurrency":7,"quota":{"minute":600,"month":1000000}},
		"modules":{"lodash":"4.17.21","@a/b":"1.0.0-rc.1"},"egress":{"allow":["*.example.com"],"deny":["10.0.0.0/8","::1"]},
		"database":{"size":"2GiB"},"placement":{"labels":{"zone":"a"},"spread":"rack"}}`))
	if err := Invalid(problems); err != nil {
		t.Fatal(err)
	}
	if w := Warnings(problems); len(w) != 1 {
		t.Errorf("warnings: %q", w)
	}
	if got.Replicas.Min != 2 || got.Resources.Tmp != 100e6 || got.Limits.Wall.String() != "2m" || got.Limits.Rate != 0.5 || got.Limits.Quota != (Quota{Minute: 600, Month: 1_000_000}) ||
		got.Modules["@a/b"] != "1.0.0-rc.1" || !slices.Equal(got.Egress.Allow, []string{"*.example.com"}) ||
		*got.Database != (Database{"postgres", 2 * GiB}) || got.Placement.Spread != "rack" {
		t.Errorf("got %+v", got)
	}
}

func TestDecodeSpecProblems(t *testing.T) {
	for _, c := range []struct {
		sentence string
		json     string
		want     []string // all problems, in order
	}{
		{"an unknown key is named with the nearest known one", spec(`"limits":{"wal":"1s"}`),
			[]string{`limits.wal: unknown key; did you mean "wall"?`}},
		{"swapped letters are near", spec(`"limist":{}`), []string{`limist: unknown key; did you mean "limits"?`}},
		{"a key that resembles nothing gets the list", spec(`"replicas":{"color":1}`),
			[]string{"replicas.color: unknown key; known here: min, max and concurrency"}},
		{"keys are compared with their case", spec(`"Limits":{}`), []string{`Limits: unknown key; did you mean "limits"?`}},
		{"a doubled key is no silent choice", spec(`"limits":{"wall":"2s","wall":"3s"}`),
			[]string{"limits.wall: is there twice; want it once"}},
		{"a number where a size belongs", spec(`"resources":{"memory":128}`),
			[]string{"resources.memory: is a number without a unit; want a size with a unit like 128MiB"}},
		{"a size in an unknown unit", spec(`"resources":{"memory":"128M"}`),
			[]string{`resources.memory: "128M" is no size; want a size with a unit like 128MiB`}},
		{"a time without a unit", spec(`"limits":{"block":1}`),
			[]string{"limits.block: is a number without a unit; want a length of time with a unit like 250ms, 1s or 2m"}},
		{"too small", spec(`"resources":{"memory":"1MiB","tmp":"1MiB"}`), []string{"resources.memory: 1MiB is out of range; want 64MiB to 1024GiB"}},
		{"a fraction where a count belongs", spec(`"replicas":{"min":1.5}`), []string{`replicas.min: "1.5" is out of range; want a whole number from 0 to 64`}},
		{"a negative rate", spec(`"limits":{"rate":-1}`), []string{`limits.rate: "-1" is out of range; want a number from 0 to 1e+06`}},
		{"a number beyond numbers", spec(`"resources":{"cpu":1e999}`), []string{`resources.cpu: "1e999" is out of range; want a number from 0.05 to 256`}},
		{"a text where a number belongs", spec(`"replicas":{"min":"1"}`), []string{"replicas.min: is a text; want a whole number from 0 to 64"}},
		{"half a request", spec(`"limits":{"quota":{"day":0.5}}`), []string{`limits.quota.day: "0.5" is out of range; want a whole number from 0 to 1000000000`}},
		{"null is no default", spec(`"limits":null`), []string{"limits: is null (leave a key out for its default); want an object: {\"block\": …}"}},
		{"max below min", spec(`"replicas":{"min":5}`), []string{"replicas.max: 4 is less than min, 5; want max to be at least min"}},
		{"tmp counts as memory", spec(`"resources":{"tmp":"1GiB"}`), []string{"resources.tmp: 1GiB is more than memory, 128MiB, which it counts as; want tmp to be at most memory"}},
		{"block beyond wall", spec(`"limits":{"wall":"1s","block":"2s"}`), []string{"limits.block: 2s is more than wall, 1s; want block to be at most wall"}},
		{"a name that disagrees", spec(`"name":"bob"`), []string{`name: "bob" disagrees with the key, which is for acme; make them equal or leave it out`}},
		{"a module under a name that says another version", spec(`"modules":{"lodash@4.17.21":"^4.0.0"}`),
			[]string{`modules.lodash@4.17.21: is of another version; want 4.17.21, as its name says`}},
		{"an odd label", spec(`"placement":{"labels":{"zone":""},"spread":" "}`),
			[]string{`placement.labels.zone: is no label; want a name and a value of letters, digits, _ . / and -, like "zone": "a"`,
				`placement.spread: is no label's name; want one like "zone"`}},
		{"all at once", `{"keys":[],"limits":{"wal":"1s","body":5},"replcas":{}}`,
			[]string{"keys: is empty; want at least one key", `limits.wal: unknown key; did you mean "wall"?`,
				"limits.body: is a number without a unit; want a size with a unit like 128MiB", `replcas: unknown key; did you mean "replicas"?`}},
		{"no keys", `{}`, []string{`keys: is missing; want at least one key, like {"kid": "2026-11", "alg": "HS256", "secret": "…"}`}},
		{"keys that are no list", `{"keys":{}}`, []string{"keys: is an object; want a list: […]"}},
		{"a list", `[]`, []string{`is a list; want an object: {"name": …}`}},
		{"nothing", " \n", []string{"is empty; want a JSON object"}},
		{"cut off", "{\n  \"keys\": [", []string{"line 2:12: the JSON ends in the middle; is it cut off?"}},
		{"trailing data", spec("") + "\n{}", []string{"line 2:1: something follows the end of the JSON; want one object and nothing after it"}},
		{"a comma too many", `{"keys":[],}`, []string{"line 1:12: is not JSON: invalid character '}' looking for beginning of object key string"}},
		{"not UTF-8", "{\"k\xff\":1}", []string{"line 1:4: is not UTF-8; want JSON in UTF-8"}},
		{"deep nesting", strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 100), []string{"nests too deep; want at most 16 levels"}},
		{"too long", spec(`"modules":{"` + strings.Repeat("x", 256<<10) + `":"1.0.0"}`), []string{"is 262247 bytes long; want at most 256KiB"}},
	} {
		_, problems := DecodeSpec("acme", []byte(c.json))
		var got []string
		for _, p := range problems {
			got = append(got, p.String())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s:\n got %q\nwant %q", c.sentence, got, c.want)
		}
	}
	if _, problems := DecodeSpec("Bad_Name", []byte(spec(""))); Invalid(problems) == nil {
		t.Error("a tenant may be called Bad_Name")
	}
}

// pair returns the halves of a key as PEM.
func pair(t testing.TB, privateKey, publicKey any) (public, private string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(privateKey)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := x509.MarshalPKIXPublicKey(publicKey)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pub})), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func newRSA(t testing.TB, bits int) (string, string) {
	k, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return pair(t, k, &k.PublicKey)
}

func newEC(t testing.TB, c elliptic.Curve) (string, string) {
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return pair(t, k, &k.PublicKey)
}

func newEd(t testing.TB) (string, string) {
	pub, k, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return pair(t, k, pub)
}

func TestKeys(t *testing.T) {
	rsaPub, rsaPriv := newRSA(t, 2048)
	weak, _ := newRSA(t, 1024)
	ecPub, ecPriv := newEC(t, elliptic.P256())
	p384, _ := newEC(t, elliptic.P384())
	edPub, edPriv := newEd(t)
	key := func(k Key) string {
		data, _ := json.Marshal(k)
		return string(data)
	}
	for _, c := range []struct {
		sentence string
		keys     string
		want     string // part of the only problem; empty: none
	}{
		{"an RSA key for RS256", key(Key{KID: "a", Alg: "RS256", Public: rsaPub}), ""},
		{"a P-256 key for ES256", key(Key{KID: "a", Alg: "ES256", Public: ecPub}), ""},
		{"an Ed25519 key for EdDSA", key(Key{KID: "a", Alg: "EdDSA", Public: edPub}), ""},
		{"several keys", goodKey + "," + key(Key{KID: "b", Alg: "EdDSA", Public: edPub}), ""},
		{"a weak RSA key", key(Key{KID: "a", Alg: "RS256", Public: weak}), "keys[0].public: is an RSA key of 1024 bits, fewer than 2048"},
		{"another curve", key(Key{KID: "a", Alg: "ES256", Public: p384}), "not on the curve P-256"},
		{"a key of another kind", key(Key{KID: "a", Alg: "RS256", Public: edPub}), "is an Ed25519 key, which goes with EdDSA, not RS256"},
		{"an RSA private key", key(Key{KID: "a", Alg: "RS256", Public: rsaPriv}), "holds a private key, which must never be given to anyone"},
		{"an EC private key", key(Key{KID: "a", Alg: "ES256", Public: ecPriv}), "holds a private key"},
		{"an Ed25519 private key", key(Key{KID: "a", Alg: "EdDSA", Public: edPriv}), "holds a private key"},
		{"a private key after the public one", key(Key{KID: "a", Alg: "EdDSA", Public: edPub + edPriv}), "holds a private key"},
		{"no PEM", key(Key{KID: "a", Alg: "RS256", Public: "ssh-rsa AAAA"}), "keys[0].public: is no PEM"},
		{"two PEM blocks", key(Key{KID: "a", Alg: "EdDSA", Public: edPub + edPub}), "has something after the PEM block"},
		{"PEM of nonsense", key(Key{KID: "a", Alg: "EdDSA", Public: "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"}), "no public key is in it"},
		{"a secret too short", key(Key{KID: "a", Alg: "HS256", Secret: secret[1:]}), "keys[0].secret: is 31 bytes long; want at least 32"},
		{"a secret where a public key belongs", key(Key{KID: "a", Alg: "RS256", Secret: secret}), "keys[0].secret: does not belong to an RS256 key"},
		{"a public key where a secret belongs", key(Key{KID: "a", Alg: "HS256", Secret: secret, Public: rsaPub}), "keys[0].public: does not belong to an HS256 key"},
		{"no algorithm", `{"kid":"a","secret":"` + secret + `"}`, "keys[0].alg: is missing"},
		{"none as an algorithm", key(Key{KID: "a", Alg: "none"}), "keys[0].alg: is no algorithm we take; want HS256, RS256, ES256, EdDSA"},
		{"an algorithm in another case", key(Key{KID: "a", Alg: "hs256", Secret: secret}), "keys[0].alg: is no algorithm we take"},
		{"no kid", `{"alg":"HS256","secret":"` + secret + `"}`, "keys[0].kid: is missing"},
		{"a kid of spaces", key(Key{KID: "  ", Alg: "HS256", Secret: secret}), "keys[0].kid: is no key's name"},
		{"a kid used twice", goodKey + "," + goodKey, `keys[1].kid: "a" is used by an earlier key`},
		{"too many", strings.TrimSuffix(strings.Repeat(goodKey+",", 17), ","), "keys: has 17 items; want at most 16"},
	} {
		_, problems := DecodeSpec("acme", []byte(`{"keys":[`+c.keys+`]}`))
		switch {
		case c.want == "" && len(problems) > 0, c.want != "" && (len(problems) != 1 || !strings.Contains(problems[0].String(), c.want)):
			t.Errorf("%s: got %q, want %q", c.sentence, problems, c.want)
		}
		for _, p := range problems {
			if text := p.String(); strings.Contains(text, secret[1:]) || strings.Contains(text, "MII") {
				t.Errorf("%s: the problem shows key material: %s", c.sentence, text)
			}
		}
	}
}

// FuzzDecodeSpec looks for panics, for secrets in problems and for specs that
// are taken but don't survive being written and read again.
func FuzzDecodeSpec(f *testing.F) {
	f.Add([]byte(spec("")))
	f.Add([]byte(spec(`"limits":{"wal":"1s","block":"1s"},"resources":{"memory":"1GiB"},"egress":{"allow":["*"]}`)))
	f.Add([]byte(`{"keys":[{"kid":"` + secret + `","alg":"` + secret + `","` + secret + `":1}],"limits":{"wall":"` + secret + `"}}`))
	f.Add([]byte(`{"keys":{"` + secret + `":[null,true,1e9,[],{}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, problems := DecodeSpec("acme", data)
		for _, p := range problems {
			if strings.Contains(p.String(), secret) {
				t.Fatalf("a problem shows a secret: %s", p)
			}
		}
		if Invalid(problems) != nil {
			return
		}
		written, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		again, problems := DecodeSpec("acme", written)
		if err := Invalid(problems); err != nil || !reflect.DeepEqual(got, again) {
			t.Fatalf("taken, but not when written again: %v\n%s\n%+v\n%+v", err, written, got, again)
		}
	})
}

func TestDecodeFunction(t *testing.T) {
	for _, c := range []struct {
		sentence, json, want string
	}{
		{"code is enough", `{"code":"x"}`, ""},
		{"everything", `{"file":"a.ts","code":"x","meta":{"a":"b"},"secrets":{"k":"v"},"created":"2026-11-22T13:00:00Z","version":"whatever"}`, ""},
		{"no code", `{}`, "code: is missing; want the function's source"},
		{"a path for a file", `{"file":"../a.js","code":"x"}`, "file: is no file's name we take"},
		{"an unknown language", `{"file":"a.py","code":"x"}`, "file: is no file's name we take"},
		{"an unknown key", `{"code":"x","secret":{}}`, `secret: unknown key; did you mean "secrets"?`},
		{"a secret that is no text", `{"code":"x","secrets":{"k":7}}`, `secrets.k: is a number; want a text: "…"`},
		{"too much code", `{"code":"` + strings.Repeat("x", 1<<20+1) + `"}`, "code: is 1048577 bytes long; want at most 1MiB"},
		{"no time", `{"code":"x","created":"yesterday"}`, "created: is no time"},
	} {
		f, problems := DecodeFunction("hello", []byte(c.json))
		if c.want == "" && len(problems) > 0 || c.want != "" && (len(problems) != 1 || !strings.Contains(problems[0].String(), c.want)) {
			t.Errorf("%s: got %q, want %q", c.sentence, problems, c.want)
		}
		if f.Version != f.Digest() || len(f.Version) != 64 {
			t.Errorf("%s: version %q", c.sentence, f.Version)
		}
	}
	if _, problems := DecodeFunction("../x", []byte(`{"code":"x"}`)); Invalid(problems) == nil {
		t.Error("a function may be called ../x")
	}
}

func TestDigest(t *testing.T) {
	a := Function{File: "a.js", Code: "x", Secrets: map[string]string{"k": "v", "l": "w"}}
	b := a
	b.Version, b.Meta = "other", map[string]string{}
	if a.Digest() != b.Digest() {
		t.Error("version and emptiness change the digest")
	}
	for name, f := range map[string]Function{
		"file": {File: "a.cjs", Code: "x", Secrets: a.Secrets}, "code": {File: "a.js", Code: "y", Secrets: a.Secrets},
		"secrets": {File: "a.js", Code: "x", Secrets: map[string]string{"k": "v"}}, "meta": {File: "a.js", Code: "x", Secrets: a.Secrets, Meta: map[string]string{"a": "b"}},
	} {
		if f.Digest() == a.Digest() {
			t.Errorf("another %s, the same digest", name)
		}
	}
}

func BenchmarkDecodeSpec(b *testing.B) {
	data := []byte(spec(`"replicas":{"min":1},"resources":{"memory":"256MiB"}`))
	for b.Loop() {
		DecodeSpec("acme", data)
	}
}
