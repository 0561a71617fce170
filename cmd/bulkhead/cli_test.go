package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
	"bulkhead/internal/etcd/etcdtest"
	"bulkhead/scheduler"
)

const secret = "0123456789abcdef0123456789abcdef"

// site is a cluster as the CLI sees it: a real etcd, a real scheduler, and
// stand-ins for what is beyond: an agent's reports and a proxy that checks
// tokens and repeats what it got.
type site struct {
	t         *testing.T
	endpoint  string
	cli       *clientv3.Client
	proxy     *httptest.Server
	dir       string
	lastToken string
}

func newSite(t *testing.T) *site {
	t.Helper()
	server, cli := etcdtest.New(t)
	s := &site{t: t, endpoint: server.Endpoints()[0], cli: cli, dir: t.TempDir()}
	s.proxy = httptest.NewServer(http.HandlerFunc(s.answer))
	t.Cleanup(s.proxy.Close)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = scheduler.Run(ctx, cli, scheduler.Options{Name: "s1", Log: slog.New(slog.DiscardHandler)})
	}()
	reported := make(chan struct{})
	go func() { defer close(reported); s.report(ctx) }()
	t.Cleanup(func() { cancel(); <-done; <-reported })
	return s
}

// report says of every placement that it is ready and has the functions of its
// manifest, as an agent would.
func (s *site) report(ctx context.Context) {
	v := &view{}
	for b := range etcd.Watch(ctx, s.cli, cluster.PlacementsPrefix, cluster.ManifestsPrefix) {
		v.take(b)
		under(v, cluster.PlacementsPrefix, 2, func(n []string, p cluster.Placement, e etcd.Event) {
			if m, ok := get[cluster.Manifest](v, cluster.ManifestKey(n[0], p.Tenant)); ok {
				data, _ := json.Marshal(cluster.Instance{
					Tenant: p.Tenant, Instance: n[1], Host: n[0], Phase: cluster.Ready, Placement: e.Revision, Functions: m.Revision, Told: e.Revision,
				})
				_, _ = s.cli.Put(ctx, cluster.InstanceKey(n[0], n[1]), string(data))
			}
		})
		for _, e := range b.Events {
			if n, ok := cluster.SplitKey(e.Key, cluster.PlacementsPrefix, 2); ok && e.Deleted {
				_, _ = s.cli.Delete(ctx, cluster.InstanceKey(n[0], n[1]))
			}
		}
	}
}

func (s *site) addHost() { s.t.Helper(); s.addHostNamed("h1") }

func (s *site) addHostNamed(name string) {
	s.t.Helper()
	data, _ := json.Marshal(cluster.Host{
		Name: name, Labels: map[string]string{"zone": "a"}, Capacity: cluster.Resources{Memory: cluster.GiB, CPU: 4, Pids: 1000}, Image: "sha256:one", Init: "systemd", Since: time.Now(),
		Paths: cluster.Paths{Run: "/run/bulkhead", State: "/var/lib/bulkhead", Runner: "/usr/lib/bulkhead/bulkhead-runner"},
	})
	if _, err := s.cli.Put(s.t.Context(), cluster.HostKey(name), string(data)); err != nil {
		s.t.Fatal(err)
	}
}

// answer repeats a request that comes with a token of acme's.
func (s *site) answer(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.lastToken = strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	refuse := func(code int, message string) {
		w.WriteHeader(code)
		fmt.Fprintf(w, `{"code":%d,"error":"x","message":%q,"req_id":"r1"}`, code, message)
	}
	token, err := jwt.Parse(s.lastToken, func(*jwt.Token) (any, error) { return []byte(secret), nil })
	switch {
	case err != nil:
		refuse(403, "the token is not acme's")
	case strings.HasSuffix(r.URL.Path, "/missing"):
		refuse(404, "unable to resolve function")
	case strings.HasSuffix(r.URL.Path, "/broken"):
		w.WriteHeader(500)
		fmt.Fprint(w, `{"code":500,"error":"Script returned an error."}`)
	default:
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{
			"method": r.Method, "target": r.URL.String(), "body": string(body), "claims": token.Claims, "x": r.Header.Get("X-Test"),
		})
	}
}

func (s *site) file(name, content string) string {
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// do runs a command line against the site.
func (s *site) do(stdin string, args ...string) (code int, out, errs string) {
	var o, e bytes.Buffer
	if !slices.Contains(args, "--endpoints") { // else it would be one more of them
		args = append([]string{"--endpoints", s.endpoint}, args...)
	}
	args = append([]string{"--proxy", s.proxy.URL}, args...)
	code = run(context.Background(), args, stdio{strings.NewReader(stdin), &o, &e})
	return code, o.String(), e.String()
}

// must runs a command that has to succeed.
func (s *site) must(args ...string) string {
	s.t.Helper()
	code, out, errs := s.do("", args...)
	if code != exitOK {
		s.t.Fatalf("%q: exit %d\n%s%s", args, code, out, errs)
	}
	return out
}

// fails runs a command that has to fail, and say so.
func (s *site) fails(want int, says string, args ...string) {
	s.t.Helper()
	code, out, errs := s.do("", args...)
	if code != want || !strings.Contains(errs, says) {
		s.t.Errorf("%q: exit %d, want %d and %q\n%s%s", args, code, want, says, out, errs)
	}
	if strings.Contains(out+errs, secret) {
		s.t.Errorf("%q shows a secret:\n%s%s", args, out, errs)
	}
}

const acmeYAML = `keys:
  - kid: k1
    alg: HS256
    secret: ` + secret + `
resources:
  memory: 128MiB
`

func TestTour(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	acme := s.file("acme.yaml", acmeYAML)
	s.fails(exitLate, "no host is present", "tenant", "apply", "-f", acme, "--wait", "--timeout", "500ms")
	s.addHost()
	if out := s.must("tenant", "apply", "-f", acme, "--wait"); !strings.Contains(out, "unchanged") || !strings.Contains(out, "acme.0 is ready on h1") {
		t.Errorf("apply: %s", out)
	}
	if out := s.must("tenant", "list"); !strings.Contains(out, "acme") || !strings.Contains(out, "1/1") {
		t.Errorf("list: %s", out)
	}
	out := s.must("tenant", "show", "acme")
	if !strings.Contains(out, "acme.0 on h1: ready") || strings.Contains(out, secret) || !strings.Contains(out, "(32 bytes)") {
		t.Errorf("show: %s", out)
	}
	if out := s.must("tenant", "show", "acme", "--secrets", "-o", "json"); !strings.Contains(out, secret) {
		t.Errorf("show --secrets: %s", out)
	}
	js := s.file("hello.js", "module.exports = cb => cb(null, 'hi')")
	key := s.file("api.key", "s3cr3t\n")
	if out := s.must("function", "deploy", "acme", "hello", js, "--secret", "API=@"+key, "--meta", "owner=web"); !strings.Contains(out, "deployed") {
		t.Errorf("deploy: %s", out)
	}
	if out := s.must("function", "deploy", "acme", "hello", js, "--secret", "API=s3cr3t", "--meta", "owner=web"); !strings.Contains(out, "unchanged") {
		t.Errorf("deploy again: %s", out)
	}
	if out := s.must("function", "deploy", "acme", "hello", js); !strings.Contains(out, "replaced") {
		t.Errorf("deploy without the secret: %s", out)
	}
	if out := s.must("function", "deploy", "acme", "hello", js, "--limit", "wall=5s,block=200ms", "--limit", "rate=5"); !strings.Contains(out, "replaced") {
		t.Errorf("deploy with limits: %s", out)
	}
	if out := s.must("token", "acme", "--limit", "wall=5s", "--limit", "concurrency=3", "-o", "json"); !strings.Contains(out, `"wall": "5s"`) || !strings.Contains(out, `"concurrency": 3`) {
		t.Errorf("token with limits: %s", out)
	}
	if out := s.must("function", "list", "acme", "-o", "json"); !strings.Contains(out, `"name": "hello"`) || strings.Contains(out, "module.exports") {
		t.Errorf("list: %s", out)
	}
	if out := s.must("invoke", "acme", "hello", "--data", "x", "-H", "x-test: 1", "--path", "a/b", "-q", "n=1"); !strings.Contains(out, `"target":"/acme/hello/a/b?n=1"`) ||
		!strings.Contains(out, `"method":"POST"`) || !strings.Contains(out, `"jtn":"hello"`) || !strings.Contains(out, `"x":"1"`) {
		t.Errorf("invoke: %s", out)
	}
	if out := s.must("run", "acme", js); !strings.Contains(out, `"target":"/api/run/acme"`) || strings.Contains(out, "jtn") || !strings.Contains(out, "module.exports") {
		t.Errorf("run: %s", out)
	}
	if out := s.must("status"); !strings.Contains(out, "Scheduler  s1") || !strings.Contains(out, "128MiB of 1.0GiB") || !strings.Contains(out, "acme.0") {
		t.Errorf("status: %s", out)
	}
	s.must("function", "rm", "acme", "hello")
	s.must("function", "deploy", "acme", "hello", js)
	if out := s.must("tenant", "rm", "acme", "--wait"); !strings.Contains(out, "its 1 functions are kept") {
		t.Errorf("rm: %s", out)
	}
	if out := s.must("tenant", "rm", "acme", "--purge", "-o", "json"); !strings.Contains(out, `"functions_removed": 1`) {
		t.Errorf("rm --purge: %s", out)
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.addHost()
	acme := s.file("acme.yaml", acmeYAML)
	s.must("tenant", "apply", "-f", acme, "--wait")
	js := s.file("hello.js", "x")
	nobody := httptest.NewServer(nil)
	nobody.Close()

	s.fails(exitUsage, "unknown command", "frobnicate")
	s.fails(exitUsage, `did you mean "apply"`, "tenant", "aply")
	s.fails(exitUsage, "required flag", "tenant", "apply")
	s.fails(exitUsage, "accepts 1 arg", "token")
	s.fails(exitUsage, "unknown flag", "status", "--frob")
	s.fails(exitUsage, "want text or json", "status", "-o", "xml")
	s.fails(exitUsage, "want name=value", "function", "deploy", "acme", "x", js, "--secret", secret)
	s.fails(exitUsage, "at least 1s", "token", "acme", "--expires", "0s")
	s.fails(exitUsage, "one of wall, body, rate", "token", "acme", "--limit", "block=1s")
	s.fails(exitUsage, "one of block, cpu", "function", "deploy", "acme", "x", js, "--limit", "wal=1s")
	s.fails(exitUsage, "want name=JSON", "token", "acme", "--claim", "mb")

	s.fails(exitNotFound, "there is no file", "tenant", "apply", "-f", "nowhere.yaml")
	s.fails(exitNotFound, `there is no tenant "bob"`, "tenant", "show", "bob")
	s.fails(exitNotFound, `there is no tenant "bob"`, "tenant", "rm", "bob")
	s.fails(exitNotFound, `there is no tenant "bob"`, "token", "bob")
	s.fails(exitNotFound, `there is no tenant "bob"`, "function", "deploy", "bob", "x", js)
	s.fails(exitNotFound, `there is no tenant "bob"`, "function", "list", "bob")
	s.fails(exitNotFound, `has no function "x"`, "function", "rm", "acme", "x")
	s.fails(exitNotFound, "has no HS256 key named", "token", "acme", "--kid", "k9")
	s.fails(exitNotFound, "unable to resolve function (request r1)", "invoke", "acme", "missing")

	s.fails(exitInvalid, "is neither JSON nor YAML", "tenant", "apply", "-f", s.file("b.yaml", "a: [\n"))
	s.fails(exitInvalid, `limits.wal: unknown key; did you mean "wall"?`, "tenant", "apply", "-f", s.file("c.yaml", acmeYAML+"limits:\n  wal: 1s\n"))
	s.fails(exitInvalid, "disagrees", "tenant", "apply", "--name", "bob", "-f", s.file("d.yaml", acmeYAML+"name: carl\n"))
	s.fails(exitInvalid, "already", "tenant", "apply", "-f", s.file("e.yaml", acmeYAML+"keys: []\n"))
	s.fails(exitInvalid, "unit like 250ms", "function", "deploy", "acme", "x", js, "--limit", "wall=1s,block=200")
	s.fails(exitInvalid, "want a number", "token", "acme", "--limit", "rate=fast")
	s.fails(exitInvalid, "limits.block", "function", "deploy", "acme", "x", js, "--limit", "block=1ms")
	s.fails(exitInvalid, "tenant name", "token", "Not_A_Name")
	s.fails(exitInvalid, "ending in .js", "function", "deploy", "acme", "x", s.file("x.py", "x"))
	s.fails(exitInvalid, "function name", "token", "acme", "--function", "../x")

	s.fails(exitUnreachable, "no etcd endpoint answers", "--endpoints", nobody.URL, "status")
	s.fails(exitUnreachable, "cannot reach the proxy", "--proxy", nobody.URL, "invoke", "acme", "hello")
	s.fails(exitRefused, "the token is not acme's", "invoke", "acme", "hello", "--token", "abc")
	s.fails(exitCode, "500", "invoke", "acme", "broken")

	code, _, errs := s.do("", "-o", "json", "tenant", "show", "bob")
	var e struct {
		Error, Hint string
		Code        int `json:"exit_code"`
	}
	if err := json.Unmarshal([]byte(errs), &e); err != nil || code != exitNotFound || e.Code != code || e.Error == "" || e.Hint == "" {
		t.Errorf("an error as JSON: %s", errs)
	}
	if code, out, _ := s.do(acmeYAML, "tenant", "apply", "--name", "bob", "-f", "-", "--check"); code != 0 || !strings.Contains(out, "valid") {
		t.Errorf("--check from standard input: %d %s", code, out)
	}
}

func TestInvalidSpecIsShown(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.addHost()
	s.must("tenant", "apply", "-f", s.file("acme.yaml", acmeYAML), "--wait")
	if _, err := s.cli.Put(t.Context(), cluster.TenantKey("acme"), `{"keys": [`); err != nil {
		t.Fatal(err)
	}
	for b := range etcd.Watch(t.Context(), s.cli, cluster.TenantStatusKey("acme")) {
		if strings.Contains(string(b.Events[len(b.Events)-1].Value), cluster.PhaseInvalid) {
			break
		}
	}
	if out := s.must("tenant", "show", "acme"); !strings.Contains(out, "line 1:11: the JSON ends in the middle") || !strings.Contains(out, "acme.0 on h1: ready") {
		t.Errorf("show: %s", out)
	}
	if out := s.must("token", "acme"); strings.Count(out, ".") != 2 {
		t.Errorf("the last good key no longer signs: %s", out)
	}
}

func TestTokenWithPrivateKey(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pub, _ := x509.MarshalPKIXPublicKey(public)
	priv, _ := x509.MarshalPKCS8PrivateKey(private)
	key := s.file("private.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: priv})))
	spec, _ := json.Marshal(cluster.Spec{Keys: []cluster.Key{
		{KID: "k1", Alg: "HS256", Secret: secret},
		{KID: "idp", Alg: "EdDSA", Public: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pub}))},
	}})
	s.must("tenant", "apply", "-f", s.file("acme.json", string(spec)))
	text := s.must("token", "acme", "--key-file", key, "--function", "a", "--function", "b", "--expires", "5m", "--claim", "mb=1")
	token, err := jwt.Parse(strings.TrimSpace(text), func(*jwt.Token) (any, error) { return public, nil }, jwt.WithValidMethods([]string{"EdDSA"}), jwt.WithExpirationRequired())
	if err != nil {
		t.Fatal(err)
	}
	claims := token.Claims.(jwt.MapClaims)
	if token.Header["kid"] != "idp" || claims["ten"] != "acme" || fmt.Sprint(claims["jtnm"]) != "[a b]" || claims["mb"] != 1.0 || claims["jti"] == "" {
		t.Errorf("%v %v", token.Header, claims)
	}
	_, other, _ := ed25519.GenerateKey(rand.Reader)
	priv, _ = x509.MarshalPKCS8PrivateKey(other)
	s.fails(exitNotFound, "is the public half of", "token", "acme", "--key-file", s.file("other.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: priv}))))
	s.fails(exitInvalid, "no PEM of an RSA, EC or Ed25519 private key", "token", "acme", "--key-file", s.file("bad.pem", "x"))
}

func TestCompletion(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.must("tenant", "apply", "-f", s.file("acme.yaml", acmeYAML))
	s.must("function", "deploy", "acme", "hello", s.file("h.js", "x"), "--no-wait")
	if out := s.must("__complete", "invoke", ""); !slices.Contains(strings.Split(out, "\n"), "acme") {
		t.Errorf("tenants: %s", out)
	}
	if out := s.must("__complete", "invoke", "acme", ""); !slices.Contains(strings.Split(out, "\n"), "hello") {
		t.Errorf("functions: %s", out)
	}
	if out := s.must("completion", "bash"); !strings.Contains(out, "__start_bulkhead") {
		t.Error("no completion for bash")
	}
}
