package agent

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
	"bulkhead/internal/sealed"
)

// sealing are a ring, what seals for it, and its file.
func sealing(t *testing.T) (*sealed.Ring, *sealed.Lock, sealed.File) {
	t.Helper()
	r, err := sealed.NewRing()
	if err != nil {
		t.Fatal(err)
	}
	file := sealed.File{Path: filepath.Join(t.TempDir(), "ring.json")}
	if err := file.Write(r); err != nil {
		t.Fatal(err)
	}
	return r, lockOf(t, r), file
}

func lockOf(t *testing.T, r *sealed.Ring) *sealed.Lock {
	t.Helper()
	data, err := r.Lock()
	if err != nil {
		t.Fatal(err)
	}
	l, err := sealed.ParseLock(data)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// sealedBook is a book that opens with a file's keys.
func sealedBook(t *testing.T, dir string, file sealed.File) (*book, chan bool) {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	read := make(chan bool, 8)
	s := &secrets{file: file, log: log, notify: func() { read <- true }, work: &sync.WaitGroup{}}
	s.begin()
	b, err := openBook("h1", disk(dir), s, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.work.Wait)
	return b, read
}

const (
	topSecret = "the secret of the tenant's only key, in plain text"
	apiSecret = "the secret of the tenant's only function, in plain text"
)

// place gives the book a placement whose key is sealed, and a function.
func place(t *testing.T, b *book, l *sealed.Lock, at sealed.Place, revision int64) {
	t.Helper()
	w := want(t)
	text, err := l.Seal(at, []byte(topSecret))
	if err != nil {
		t.Fatal(err)
	}
	w.Placement.Keys = []cluster.Key{{KID: "k1", Alg: cluster.SealedAlg, Sealed: text}}
	f, err := l.Function("acme", "f", cluster.Function{File: "f.js", Code: "x", Secrets: map[string]string{"API": apiSecret}})
	if err != nil {
		t.Fatal(err)
	}
	batch := etcd.Batch{Snapshot: true, Revision: revision + 2, Events: []etcd.Event{event(t, cluster.PlacementKey("h1", "acme.0"), w.Placement, revision)}}
	for _, u := range w.Units {
		batch.Events = append(batch.Events, etcd.Event{Key: cluster.UnitKey("h1", u.Name), Value: []byte(u.Text), Revision: revision})
	}
	batch.Events = append(batch.Events,
		event(t, cluster.CopyKey("h1", "acme", "f"), map[string]any{"source": revision, "function": f}, revision),
		event(t, cluster.ManifestKey("h1", "acme"), manifest(revision, "f", revision), revision+1))
	b.apply(batch)
}

func wanted(b *book) Want { return b.desired(cluster.Paths{Run: "/run"})["acme.0"] }

func TestSecretsAreOpenedForTheRunnerAndStaySealedOnDisk(t *testing.T) {
	_, l, file := sealing(t)
	dir := t.TempDir()
	b, _ := sealedBook(t, dir, file)
	place(t, b, l, sealed.KeyPlace("acme", "k1"), 5)
	opened := func(w Want) bool {
		return w.Missing == "" && w.Behind == "" && bytes.Contains(w.Keys, []byte(topSecret)) && w.Functions["f"].Secrets["API"] == apiSecret
	}
	if w := wanted(b); !opened(w) {
		t.Fatalf("missing %q, behind %q", w.Missing, w.Behind)
	}
	for _, f := range files(t, dir) {
		if strings.Contains(f, topSecret) || strings.Contains(f, apiSecret) {
			t.Errorf("on disk is %s", f)
		}
	}
	again, _ := sealedBook(t, dir, file) // after a reboot without etcd
	if w := wanted(again); !opened(w) || w.Config() != wanted(b).Config() {
		t.Errorf("after a reboot: missing %q, behind %q", w.Missing, w.Behind)
	}
	keyless, _ := sealedBook(t, dir, sealed.File{Path: filepath.Join(t.TempDir(), "none")})
	if w := wanted(keyless); !strings.Contains(w.Missing, l.ID()) || len(w.Keys) > 0 {
		t.Errorf("without keys: missing %q", w.Missing)
	}
	// Sealed anew nothing changes for the runner.
	before := wanted(b).Config()
	place(t, b, l, sealed.KeyPlace("acme", "k1"), 10)
	if w := wanted(b); w.Config() != before || w.Revision != 10 {
		t.Error("what is sealed anew is told to the runner as if it were new")
	}
	// What was moved here from elsewhere does not open, and ends nothing.
	place(t, b, l, sealed.KeyPlace("globex", "k1"), 20)
	if w := wanted(b); w.Config() != before || w.Revision != 10 || w.Missing != "" || !strings.Contains(w.Behind, "another tenant") {
		t.Errorf("moved from another tenant: revision %d, missing %q, behind %q", w.Revision, w.Missing, w.Behind)
	}
}

func files(t *testing.T, dir string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) == 0 {
		t.Fatal(err, "nothing is on disk")
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(data))
	}
	return all
}

func TestOtherKeysAreTakenUpWithoutARestart(t *testing.T) {
	r, l, file := sealing(t)
	b, read := sealedBook(t, t.TempDir(), file)
	now := time.Now()
	if !b.secrets.again(now) || b.secrets.again(now) {
		t.Fatal("what was read at the start is not told once")
	}
	next, id, err := r.Add()
	if err == nil {
		next, err = next.Use(id)
	}
	if err != nil {
		t.Fatal(err)
	}
	place(t, b, l, sealed.KeyPlace("acme", "k1"), 5)
	before := wanted(b)
	place(t, b, lockOf(t, next), sealed.KeyPlace("acme", "k1"), 10)
	if w := wanted(b); w.Revision != before.Revision || !strings.Contains(w.Behind, id) {
		t.Fatalf("sealed for a key that is not here: revision %d, behind %q", w.Revision, w.Behind)
	}
	// A file that is cut off changes nothing, and is looked at again.
	if err := os.WriteFile(file.Path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.secrets.again(now)
	<-read
	if b.secrets.again(now) || len(b.secrets.opens()) != 1 {
		t.Fatal("a broken file is taken for good")
	}
	if err := file.Write(next); err != nil {
		t.Fatal(err)
	}
	b.secrets.again(now) // too early
	b.secrets.again(now.Add(time.Hour))
	<-read
	if !b.secrets.again(now) || len(b.secrets.opens()) != 2 {
		t.Fatal("other keys are not taken up")
	}
	b.reopen()
	if w := wanted(b); w.Revision != 10 || w.Behind != "" || w.Config() != before.Config() {
		t.Errorf("with the other keys: revision %d, behind %q", w.Revision, w.Behind)
	}
}
