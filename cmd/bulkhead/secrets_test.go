package main

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/cluster"
	"bulkhead/internal/sealed"
)

// opens has the site's host say which keys it has: those of a file.
func (s *site) opens(file string) {
	s.t.Helper()
	r, err := sealed.File{Path: file}.Read()
	if err != nil {
		s.t.Fatal(err)
	}
	got, err := s.cli.Get(s.t.Context(), cluster.HostKey("h1"))
	if err != nil {
		s.t.Fatal(err)
	}
	var h cluster.Host
	if err := json.Unmarshal(got.Kvs[0].Value, &h); err != nil {
		s.t.Fatal(err)
	}
	h.Opens = r.IDs()
	data, _ := json.Marshal(h)
	if _, err := s.cli.Put(s.t.Context(), cluster.HostKey("h1"), string(data)); err != nil {
		s.t.Fatal(err)
	}
}

// inEtcd are the keys whose values, as they are now, hold a text.
func (s *site) inEtcd(text string) (keys []string) {
	s.t.Helper()
	all, err := s.cli.Get(s.t.Context(), cluster.Root, clientv3.WithPrefix())
	if err != nil {
		s.t.Fatal(err)
	}
	for _, kv := range all.Kvs {
		if strings.Contains(string(kv.Value), text) {
			keys = append(keys, string(kv.Key))
		}
	}
	return keys
}

func TestSecretsFromPlainToSealedToAnotherKey(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.addHost()
	ring := s.dir + "/keys/" + ringName
	acme := s.file("acme.yaml", acmeYAML)
	js := s.file("hello.js", "module.exports = cb => cb(null, 'hi')")
	api := s.file("api.key", "s3cr3t-of-a-function\n")
	s.must("tenant", "apply", "-f", acme, "--wait")
	s.must("function", "deploy", "acme", "hello", js, "--secret", "API=@"+api)
	if len(s.inEtcd(secret)) == 0 || len(s.inEtcd("s3cr3t-of")) == 0 {
		t.Fatal("a cluster without keys seals")
	}
	s.fails(exitUsage, "name the file", "secrets", "seal")
	s.fails(exitNotFound, "there is no file", "secrets", "use", "--opening-keys", ring)
	s.must("secrets", "add", "--opening-keys", ring)
	s.fails(exitLate, "h1", "secrets", "use", "--opening-keys", ring, "--timeout", "100ms")
	s.opens(ring)
	first := strings.Fields(s.must("secrets", "use", "--opening-keys", ring))[5]
	s.must("secrets", "seal", "--opening-keys", ring)
	for _, text := range []string{secret, "s3cr3t-of"} {
		if at := s.inEtcd(text); len(at) > 0 {
			t.Errorf("a secret is left in %q", at)
		}
	}
	// All is as it was for who has the keys, and shown to nobody else.
	s.fails(exitUsage, "--opening-keys", "token", "acme")
	s.must("token", "acme", "--opening-keys", ring)
	if out := s.must("tenant", "show", "acme"); !strings.Contains(out, "(for key "+first+")") {
		t.Errorf("show: %s", out)
	}
	s.fails(exitUsage, "--opening-keys", "tenant", "show", "acme", "--secrets")
	if out := s.must("tenant", "show", "acme", "--secrets", "--opening-keys", ring); !strings.Contains(out, secret) {
		t.Errorf("show --secrets: %s", out)
	}
	for _, args := range [][]string{{"tenant", "apply", "-f", acme}, {"function", "deploy", "acme", "hello", js, "--secret", "API=@" + api}} {
		if out := s.must(append(args, "--opening-keys", ring)...); !strings.Contains(out, "unchanged") {
			t.Errorf("%q again: %s", args, out)
		}
	}
	if out := s.must("function", "deploy", "acme", "hello", js, "--secret", "API=@"+api); !strings.Contains(out, "replaced") { // it can't tell
		t.Errorf("deploy without the keys: %s", out)
	}
	// Another key, step by step.
	second := strings.Fields(s.must("secrets", "add", "--opening-keys", ring))[1]
	s.fails(exitLate, "h1", "secrets", "use", "--opening-keys", ring, "--timeout", "100ms")
	s.opens(ring)
	s.must("secrets", "use", second, "--opening-keys", ring)
	s.fails(exitUsage, "are sealed for key "+first, "secrets", "drop", first, "--opening-keys", ring)
	s.fails(exitUsage, "secrets are sealed for key "+second, "secrets", "drop", second, "--opening-keys", ring)
	s.must("secrets", "seal", "--opening-keys", ring)
	var v vaultView
	if err := json.Unmarshal([]byte(s.must("secrets", "status", "-o", "json")), &v); err != nil {
		t.Fatal(err)
	}
	at := func(id string) keyView {
		return v.Keys[slices.IndexFunc(v.Keys, func(k keyView) bool { return k.Key == id })]
	}
	if v.Plain != 0 || at(first).Values != 0 || at(second).Values != 5 || !at(second).Seals || at(first).Seals || !slices.Equal(at(first).Hosts, []string{"h1"}) {
		t.Errorf("status: %+v", v)
	}
	s.must("secrets", "drop", first, "--opening-keys", ring)
	s.must("token", "acme", "--opening-keys", ring)
	// Interrupted after "add", rotate goes on with what was added.
	third := strings.Fields(s.must("secrets", "add", "--opening-keys", ring))[1]
	s.opens(ring)
	if out := s.must("secrets", "rotate", "--drop", "--opening-keys", ring); !strings.Contains(out, "5 values sealed anew") && !strings.Contains(out, "anew for key "+third) {
		t.Errorf("rotate: %s", out)
	}
	if r, err := (sealed.File{Path: ring}).Read(); err != nil || !slices.Equal(r.IDs(), []string{third}) {
		t.Errorf("the file has %v, %v, want %s", r.IDs(), err, third)
	}
	s.fails(exitNotFound, "there is no file", "secrets", "add", "--opening-keys", s.dir+"/another") // would open nothing
}

func TestRevokedTokensAreToldToEveryInstance(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.addHost()
	s.fails(exitNotFound, "no tenant", "token", "revoke", "acme", "--jti", "x")
	s.must("tenant", "apply", "-f", s.file("acme.yaml", acmeYAML), "--wait")
	for _, args := range [][]string{{}, {"--jti", "x", "--all"}, {"--jti", "x", "--kid", "k"}} {
		s.fails(exitUsage, "", append([]string{"token", "revoke", "acme"}, args...)...)
	}
	s.fails(exitInvalid, "no token", "token", "revoke", "acme", "--token-file", s.file("not", "a token"))
	token := s.file("token", s.must("token", "acme"))
	if out := s.must("token", "revoke", "acme", "--token-file", token); !strings.Contains(out, "refused on h1") {
		t.Errorf("revoke: %s", out)
	}
	for range 2 {
		s.must("token", "revoke", "acme", "--jti", "x")
	}
	s.must("token", "revoke", "acme", "--all")
	revoked := func() []cluster.Revocation {
		got, err := s.cli.Get(t.Context(), cluster.PlacementKey("h1", "acme.0"))
		if err != nil {
			t.Fatal(err)
		}
		var p cluster.Placement
		if err := json.Unmarshal(got.Kvs[0].Value, &p); err != nil {
			t.Fatal(err)
		}
		return p.Revoked
	}
	if all := revoked(); len(all) != 3 || all[0].ID == "" || all[0].Until == 0 || all[1].ID != "x" || all[2].Before == 0 {
		t.Errorf("the placement carries %+v", all)
	}
	// What can't be read changes nothing, and is told.
	if _, err := s.cli.Put(t.Context(), cluster.RevocationsKey("acme"), "[{"); err != nil {
		t.Fatal(err)
	}
	st := store{s.cli}
	if _, ok := st.wait(t.Context(), 10*time.Second, func(v *view) bool {
		status := standings(v)["acme"]
		return status != nil && status.Status != nil && strings.Contains(strings.Join(status.Status.Warnings, " "), "revocations")
	}, standingPrefixes...); !ok || len(revoked()) != 3 {
		t.Errorf("after a list that can't be read the placement carries %+v", revoked())
	}
	s.fails(exitInvalid, "is no list", "token", "revoke", "acme", "--jti", "y")
}

func TestTheKeysMayBeWrappedByAKeyManagementService(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.addHost()
	ring, socket := s.dir+"/"+ringName, s.dir+"/kms.sock"
	program := s.dir + "/plugin"
	if out, err := exec.Command("go", "build", "-o", program, "../../internal/sealed/testdata/plugin").CombinedOutput(); err != nil {
		t.Fatalf("cannot build the plug-in: %v\n%s", err, out)
	}
	plugin := exec.Command(program, socket, s.file("kms.key", strings.Repeat("k", 32)))
	if err := plugin.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { plugin.Process.Kill(); plugin.Wait() })
	s.must("secrets", "add", "--opening-keys", ring)
	s.opens(ring)
	s.must("secrets", "use", "--opening-keys", ring)
	s.must("tenant", "apply", "-f", s.file("acme.yaml", acmeYAML), "--wait")
	s.fails(exitUsage, "--kms", "secrets", "wrap", "--opening-keys", ring)
	for deadline := time.Now().Add(30 * time.Second); ; { // the plug-in tells nobody that it listens
		if code, _, errs := s.do("", "secrets", "wrap", "--opening-keys", ring, "--kms", socket); code == exitOK {
			break
		} else if time.Now().After(deadline) {
			t.Fatal(errs)
		}
	}
	s.fails(exitInvalid, "--kms", "token", "acme", "--opening-keys", ring)
	s.must("token", "acme", "--opening-keys", ring, "--kms", socket)
	id := strings.Fields(s.must("secrets", "add", "--opening-keys", ring, "--kms", socket))[1] // it stays wrapped
	s.fails(exitInvalid, "--kms", "token", "acme", "--opening-keys", ring)
	if r, err := (sealed.File{Path: ring, KMS: socket}).Read(); err != nil || !slices.Contains(r.IDs(), id) {
		t.Errorf("%v, %v", r, err)
	}
}
