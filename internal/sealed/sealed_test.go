package sealed

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead/cluster"
)

func newRing(t *testing.T) (*Ring, *Lock) {
	t.Helper()
	r, err := NewRing()
	if err != nil {
		t.Fatal(err)
	}
	return r, lockOf(t, r)
}

func lockOf(t *testing.T, r *Ring) *Lock {
	t.Helper()
	data, err := r.Lock()
	if err != nil {
		t.Fatal(err)
	}
	if text := string(data); strings.Contains(text, "PRIVATE") || !strings.Contains(text, "PUBLIC") {
		t.Fatalf("a lock holds more than a public key: %s", text)
	}
	l, err := ParseLock(data)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func seal(t *testing.T, l *Lock, at Place, secret string) string {
	t.Helper()
	text, err := l.Seal(at, []byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestOpensOnlyAtItsPlaceAndUnchanged(t *testing.T) {
	r, l := newRing(t)
	const secret = "0123456789abcdef0123456789abcdef"
	text := seal(t, l, KeyPlace("acme", "k1"), secret)
	if strings.Contains(text, secret) || KeyID(text) != l.ID() || l.ID() != r.First() {
		t.Fatalf("sealed as %s for key %q, want %q", text, KeyID(text), r.First())
	}
	if got, err := r.Open(KeyPlace("acme", "k1"), text); err != nil || string(got) != secret {
		t.Fatalf("opened as %q, %v", got, err)
	}
	// Between the parts of a place no letter of a name can stand.
	for _, at := range []Place{KeyPlace("acme", "k2"), KeyPlace("globex", "k1"), KeyPlace("acm", "ek1"), FunctionPlace("acme", "k1")} {
		if got, err := r.Open(at, text); err == nil {
			t.Errorf("opened at %q too: %q", at, got)
		}
	}
	for i := range text {
		other := []byte(text)
		other[i] = map[bool]byte{true: 'B', false: 'A'}[text[i] == 'A']
		if _, err := r.Open(KeyPlace("acme", "k1"), string(other)); err == nil && i < len(text)-1 { // of the last, some bits are none
			t.Errorf("opened with letter %d changed", i)
		}
	}
	for _, text := range []string{"", "A", "AAAAAAAA", text[:len(text)/2], "plain text that is no such thing", strings.Repeat("é", 80)} {
		if _, err := r.Open(KeyPlace("acme", "k1"), text); err == nil {
			t.Errorf("opened %q", text)
		}
	}
	other, _ := newRing(t)
	if _, err := other.Open(KeyPlace("acme", "k1"), text); err == nil || !strings.Contains(err.Error(), r.First()) {
		t.Errorf("with other keys: %v, want the key that it is sealed for", err)
	}
	if again := seal(t, l, KeyPlace("acme", "k1"), secret); again == text {
		t.Error("sealed twice the same: equal secrets can be told")
	}
}

func TestKeysComeAndGoInSteps(t *testing.T) {
	r, l := newRing(t)
	old := seal(t, l, "here", "one")
	both, id, err := r.Add()
	if err != nil || both.First() != r.First() || len(both.IDs()) != 2 {
		t.Fatalf("added %s: first %s of %v, %v", id, both.First(), both.IDs(), err)
	}
	if lockOf(t, both).ID() != r.First() {
		t.Fatal("what is added seals before it is used")
	}
	used, err := both.Use(id)
	if err != nil {
		t.Fatal(err)
	}
	now := seal(t, lockOf(t, used), "here", "two")
	if KeyID(now) != id {
		t.Fatalf("sealed for %s, want %s", KeyID(now), id)
	}
	for _, ring := range []*Ring{both, used} { // hosts of either step
		for text, want := range map[string]string{old: "one", now: "two"} {
			if got, err := ring.Open("here", text); err != nil || string(got) != want {
				t.Errorf("opened as %q, %v, want %s", got, err, want)
			}
		}
	}
	if _, err := used.Drop(id); err == nil {
		t.Error("the first key was dropped")
	}
	last, err := used.Drop(r.First())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := last.Open("here", old); err == nil {
		t.Error("a key that was dropped opens")
	}
	if got, err := last.Open("here", now); err != nil || string(got) != "two" {
		t.Errorf("the key that stays opens %q, %v", got, err)
	}
	for _, id := range []string{"", "zz", "00000000", "ffffffff"} {
		if _, err := used.Use(id); err == nil {
			t.Errorf("used key %q", id)
		}
	}
}

func TestARingIsKeptInAFileOfItsOwnersAlone(t *testing.T) {
	r, l := newRing(t)
	path := filepath.Join(t.TempDir(), "ring.json")
	if _, err := (File{Path: path}).Read(); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("no file: %v", err)
	}
	if err := (File{Path: path}).Write(r); err != nil {
		t.Fatal(err)
	}
	again, err := File{Path: path}.Read()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := again.Open("here", seal(t, l, "here", "one")); err != nil || string(got) != "one" {
		t.Fatalf("opened as %q, %v", got, err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := (File{Path: path}).Read(); err == nil || !strings.Contains(err.Error(), "640") {
		t.Errorf("a file that others can read: %v", err)
	}
	private, err := r.encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range []string{"", "{}", "{", string(private[:len(private)/2])} {
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		os.Chmod(path, 0o600)
		if _, err := (File{Path: path}).Read(); err == nil || data != "" && len(data) > 20 && strings.Contains(err.Error(), data[20:40]) {
			t.Errorf("read %.20q as a ring, or quoted: %v", data, err)
		}
	}
}

const spec = `{"limits": {"wall": "5s"}, "keys": [
	{"kid": "h", "alg": "HS256", "secret": "0123456789abcdef0123456789abcdef"},
	{"kid": "i", "alg": "HS256", "secret": "\u00e9\\\"0123456789abcdef0123456789abcdef"}], "replicas": {"max": 2}}`

func TestASpecKeepsAllButItsSecrets(t *testing.T) {
	r, l := newRing(t)
	plain, problems := cluster.DecodeSpec("acme", []byte(spec))
	if err := cluster.Invalid(problems); err != nil || !PlainSpec(plain) {
		t.Fatal(err)
	}
	data, err := l.Spec("acme", []byte(spec))
	if err != nil {
		t.Fatal(err)
	}
	got, problems := cluster.DecodeSpec("acme", data)
	if err := cluster.Invalid(problems); err != nil {
		t.Fatalf("what was sealed is not valid: %v\n%s", err, data)
	}
	if PlainSpec(got) || strings.Contains(string(data), "0123456789abcdef") {
		t.Fatalf("a secret is left: %s", data)
	}
	if got.Keys, err = r.OpenKeys("acme", got.Keys); err != nil || marshal(t, got) != marshal(t, plain) {
		t.Errorf("opened as %v, %v, want %v", marshal(t, got), err, marshal(t, plain))
	}
	if back, err := r.OpenSpec("acme", data); err != nil {
		t.Error(err)
	} else if got, _ := cluster.DecodeSpec("acme", back); marshal(t, got) != marshal(t, plain) {
		t.Errorf("opened as %s", back)
	}
	if _, err := r.OpenSpec("globex", data); err == nil {
		t.Error("another tenant's spec opened")
	}
	var none *Ring
	if _, err := none.OpenKeys("acme", mustKeys(t, data)); err == nil || !strings.Contains(err.Error(), l.ID()) {
		t.Errorf("without a ring: %v", err)
	}
}

func TestAShortSecretThatWasSealedIsRefused(t *testing.T) {
	r, l := newRing(t)
	for _, secret := range []string{"", "short"} {
		key := cluster.Key{KID: "k", Alg: "HS256", Sealed: seal(t, l, KeyPlace("acme", "k"), secret)}
		if _, err := r.OpenKeys("acme", []cluster.Key{key}); err == nil {
			t.Errorf("a secret of %d bytes is taken", len(secret))
		}
	}
}

func TestAFunctionsVersionIsThatOfItsSecrets(t *testing.T) {
	r, l := newRing(t)
	f := cluster.Function{File: "f.js", Code: "x", Secrets: map[string]string{"A": "one", "B": "two"}}
	hidden, err := l.Function("acme", "f", f)
	if err != nil || len(hidden.Secrets) > 0 || hidden.Sealed == "" {
		t.Fatalf("%+v, %v", hidden, err)
	}
	read, problems := cluster.DecodeFunction("f", []byte(marshal(t, hidden)))
	if err := cluster.Invalid(problems); err != nil {
		t.Fatal(err)
	}
	open, err := r.OpenFunction("acme", "f", read)
	if err != nil || open.Version != f.Digest() || open.Secrets["B"] != "two" || open.Sealed != "" {
		t.Errorf("%+v, %v, want version %s", open, err, f.Digest())
	}
	if _, err := r.OpenFunction("acme", "g", read); err == nil {
		t.Error("another function's secrets opened")
	}
}

func mustKeys(t *testing.T, data []byte) []cluster.Key {
	t.Helper()
	s, _ := cluster.DecodeSpec("acme", data)
	return s.Keys
}

func marshal(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
