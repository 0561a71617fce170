package scheduler

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/cluster"
	"bulkhead/internal/etcd/etcdtest"
	"bulkhead/internal/sealed"
)

// sealing makes a ring and what etcd says of it.
func sealing(t *testing.T) (*sealed.Ring, string) {
	t.Helper()
	r, err := sealed.NewRing()
	if err != nil {
		t.Fatal(err)
	}
	lock, err := r.Lock()
	if err != nil {
		t.Fatal(err)
	}
	return r, marshal(cluster.Sealing{ID: r.First(), Lock: lock})
}

// opening is a host that can open what is sealed for a ring.
func opening(name string, r *sealed.Ring) string {
	h := testHost(name, "")
	h.Opens = r.IDs()
	return marshal(h)
}

// leaks are keys that hold a secret in plain text.
func (w *world) leaks(secrets ...string) (keys []string) {
	for key, value := range w.keys {
		for _, secret := range secrets {
			if strings.Contains(value, secret) {
				keys = append(keys, key)
			}
		}
	}
	return keys
}

const (
	plainSecret = "a secret in plain text, of a tenant's key"
	plainAPI    = "a secret in plain text, of a function"
)

func plainSpec(kid, more string) string {
	return fmt.Sprintf(`{"keys":[{"kid":%q,"alg":"HS256","secret":%q}]%s}`, kid, plainSecret, more)
}

func TestPlainSecretsAreSealedBeforeAnythingIsPlannedByThem(t *testing.T) {
	t.Parallel()
	_, cli := etcdtest.New(t)
	w := newWorld(t, cli)
	r, lock := sealing(t)
	w.put(cluster.SealingKey, lock)
	w.put(cluster.HostKey("h0"), marshal(testHost("h0", ""))) // of a release that can't open
	run(t, cli, "s1", nil)
	w.put(cluster.TenantKey("acme"), plainSpec("k1", `,"replicas":{"max":1}`))
	w.until("it waits for a host that has the key", func() bool {
		s := w.status("acme")
		return s.Phase == cluster.PhaseWaiting && strings.Contains(strings.Join(s.Reasons, " "), "lacks the key "+r.First())
	})
	w.put(cluster.HostKey("h1"), opening("h1", r))
	w.until("placed", func() bool { return w.status("acme").Phase == cluster.PhasePlaced })
	if s := w.status("acme"); s.Sealed == 0 || s.Sealed != s.Applied || !strings.Contains(strings.Join(s.Warnings, " "), "plain text") {
		t.Errorf("status %+v does not say that a plain secret was sealed", s)
	}
	w.put(cluster.FunctionKey("acme", "f"), `{"code":"x","secrets":{"API":"`+plainAPI+`"}}`)
	copied := func() (c cluster.Copy) {
		_ = json.Unmarshal([]byte(w.keys[cluster.CopyKey("h1", "acme", "f")]), &c)
		return c
	}
	w.until("the function copied", func() bool { return copied().Source > 0 })
	if at := w.leaks(plainSecret, plainAPI); len(at) > 0 {
		t.Fatalf("secrets in plain text are left in %q", at)
	}
	neverPlain(t, cli, cluster.AppliedKey("acme"), cluster.PlacementKey("h1", "acme.0"), cluster.CopyKey("h1", "acme", "f"))
	keys := w.placement("h1", "acme.0").Keys
	if keys[0].Alg == "HS256" {
		t.Error("a runner of before would take the key's secret for empty")
	}
	keys, err := r.OpenKeys("acme", keys)
	if err != nil || keys[0].Alg != "HS256" || keys[0].Secret != plainSecret {
		t.Errorf("the placement opens as %v, %v", keys, err)
	}
	f, problems := cluster.DecodeFunction("f", copied().Function)
	if f, err = r.OpenFunction("acme", "f", f); err != nil || len(problems) > 0 || f.Secrets["API"] != plainAPI {
		t.Errorf("the copy opens as %v, %v, %v", f.Secrets, problems, err)
	}
	// A spec that is wrong elsewhere is sealed too; one whose keys are wrong
	// shows what is wrong with them.
	w.put(cluster.TenantKey("acme"), plainSpec("k2", `,"limits":{"wal":"1s"}`))
	w.until("a bad spec refused, and sealed", func() bool {
		return w.status("acme").Phase == cluster.PhaseInvalid && len(w.leaks(plainSecret)) == 0 && strings.Contains(w.keys[cluster.TenantKey("acme")], `"k2"`)
	})
	w.put(cluster.TenantKey("acme"), `{"keys":[{"kid":"k3","alg":"HS256","secret":"short"}]}`)
	w.until("the short secret told", func() bool { return strings.Contains(w.status("acme").Error, "is 5 bytes long") })
}

func TestTheLastOfManyPlainSpecsIsTheOneInForce(t *testing.T) {
	t.Parallel()
	_, cli := etcdtest.New(t)
	w := newWorld(t, cli)
	r, lock := sealing(t)
	w.put(cluster.SealingKey, lock)
	w.put(cluster.HostKey("h1"), opening("h1", r))
	run(t, cli, "s1", nil)
	const last = 60
	for i := range last + 1 { // each overtakes the sealing of the one before
		w.put(cluster.TenantKey("acme"), plainSpec(fmt.Sprintf("k%d", i), ""))
	}
	w.until("the last one in force", func() bool {
		p := w.placement("h1", "acme.0")
		return len(p.Keys) == 1 && p.Keys[0].KID == fmt.Sprintf("k%d", last)
	})
	if at := w.leaks(plainSecret); len(at) > 0 {
		t.Fatalf("secrets in plain text are left in %q", at)
	}
	neverPlain(t, cli, cluster.AppliedKey("acme"), cluster.PlacementKey("h1", "acme.0"))
}

func TestWhatWasThereBeforeIsSealedOnceThereIsSomethingToSealWith(t *testing.T) {
	t.Parallel()
	_, cli := etcdtest.New(t)
	w := newWorld(t, cli)
	r, lock := sealing(t)
	w.put(cluster.HostKey("h1"), opening("h1", r))
	run(t, cli, "s1", nil)
	tenants := []string{"acme", "globex", "initech"}
	for _, name := range tenants {
		w.put(cluster.TenantKey(name), plainSpec("k1", ""))
	}
	w.until("placed in plain text", func() bool { return len(w.leaks(plainSecret)) == 3*len(tenants) }) // spec, applied, placement
	w.put(cluster.TenantKey("globex"), `{"keys":`)
	w.until("the broken spec told", func() bool { return w.status("globex").Phase == cluster.PhaseInvalid })
	w.put(cluster.SealingKey, lock)
	// The placement by the last good spec follows it.
	w.until("all sealed", func() bool { return len(w.leaks(plainSecret)) == 0 })
	for _, name := range tenants {
		w.until(name+" placed by it", func() bool {
			keys, err := r.OpenKeys(name, w.placement("h1", name+".0").Keys)
			return err == nil && len(keys) == 1 && keys[0].Secret == plainSecret
		})
	}
}

// neverPlain checks that no revision of keys ever held a secret in plain text.
func neverPlain(t *testing.T, cli *clientv3.Client, keys ...string) {
	t.Helper()
	for _, key := range keys {
		for _, value := range history(t, cli, key) {
			if strings.Contains(value, plainSecret) || strings.Contains(value, plainAPI) {
				t.Errorf("%s once held a secret in plain text", key)
			}
		}
	}
}

// history returns every value that a key has had.
func history(t *testing.T, cli *clientv3.Client, key string) (values []string) {
	t.Helper()
	r, err := cli.Get(t.Context(), key)
	if err != nil || len(r.Kvs) == 0 {
		t.Fatalf("%s: %v, %v", key, r, err)
	}
	for revision := r.Kvs[0].CreateRevision; revision <= r.Kvs[0].ModRevision; revision++ {
		old, err := cli.Get(t.Context(), key, clientv3.WithRev(revision))
		if err != nil {
			t.Fatal(err)
		}
		values = append(values, string(old.Kvs[0].Value))
	}
	return values
}

// A scheduler whose user in etcd may not write specs, as before "cluster apply"
// of a newer release, goes on with plain secrets and says so.
func TestASecretThatCantBeSealedIsUsedAndTold(t *testing.T) {
	f := newFixture(t)
	r, lock := sealing(t)
	f.put(cluster.SealingKey, lock)
	f.put(cluster.HostKey("h1"), opening("h1", r))
	f.put(cluster.TenantKey("acme"), plainSpec("k1", ""))
	f.put(cluster.FunctionKey("acme", "f"), `{"code":"x","secrets":{"API":"`+plainAPI+`"}}`)
	keys := f.model.toSeal()
	if len(keys) != 2 {
		t.Fatalf("to be sealed are %q", keys)
	}
	for _, key := range keys {
		f.model.sealedOne(key, 0, errors.New("permission denied"))
	}
	f.settle()
	var s cluster.Status
	if err := json.Unmarshal([]byte(f.keys[cluster.TenantStatusKey("acme")]), &s); err != nil || s.Phase != cluster.PhasePlaced || !strings.Contains(strings.Join(s.Warnings, " "), "permission denied") {
		t.Errorf("status %+v, %v", s, err)
	}
	if !strings.Contains(f.keys[cluster.PlacementKey("h1", "acme.0")], plainSecret) || !strings.Contains(f.keys[cluster.CopyKey("h1", "acme", "f")], plainAPI) {
		t.Error("what can't be sealed is not used")
	}
	f.put(cluster.TenantKey("acme"), plainSpec("k2", "")) // the next is tried again
	if keys := f.model.toSeal(); len(keys) != 1 {
		t.Errorf("to be sealed are %q", keys)
	}
}
