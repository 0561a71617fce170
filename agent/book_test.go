package agent

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
	"bulkhead/internal/kept"
)

func testBook(t *testing.T, dir string) *book {
	t.Helper()
	b, err := openBook("h1", disk(dir), &secrets{}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func event(t *testing.T, key string, value any, revision int64) etcd.Event {
	t.Helper()
	data, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return etcd.Event{Key: key, Value: data, Revision: revision}
}

func TestBookIsTheSameAfterAReboot(t *testing.T) {
	dir := t.TempDir()
	b := testBook(t, dir)
	w := want(t)
	batch := etcd.Batch{Snapshot: true, Revision: 9, Events: []etcd.Event{event(t, cluster.PlacementKey("h1", "acme.0"), w.Placement, 7)}}
	for _, u := range w.Units {
		batch.Events = append(batch.Events, etcd.Event{Key: cluster.UnitKey("h1", u.Name), Value: []byte(u.Text), Revision: 7})
	}
	batch.Events = append(batch.Events, delivered(t, "hello.v2", "1", 6), event(t, cluster.ManifestKey("h1", "acme"), manifest(8, "hello.v2", 6), 9))
	b.apply(batch)

	again := testBook(t, dir).desired(cluster.Paths{Run: "/run"})["acme.0"]
	if again.Missing != "" || again.Revision != 7 || len(again.Units) != 4 || len(again.Functions) != 1 {
		t.Fatalf("after a reboot: %+v", again)
	}
	if before := b.desired(cluster.Paths{Run: "/run"})["acme.0"]; before.Config() != again.Config() {
		t.Error("a reboot changes what the runner is told")
	}
}

// delivered is the host's copy of one of acme's functions.
func delivered(t *testing.T, name, code string, source int64) etcd.Event {
	t.Helper()
	f, err := json.Marshal(cluster.Function{File: "hello.js", Code: code})
	if err != nil {
		t.Fatal(err)
	}
	return event(t, cluster.CopyKey("h1", "acme", name), cluster.Copy{Source: source, Function: f}, source+1)
}

func manifest(revision int64, name string, source int64) cluster.Manifest {
	return cluster.Manifest{Revision: revision, Functions: map[string]int64{name: source}}
}

func TestBookHasFunctionsAsTheManifestSays(t *testing.T) {
	b := testBook(t, t.TempDir())
	placed := event(t, cluster.PlacementKey("h1", "acme.0"), want(t).Placement, 1)
	look := func() Want { return b.desired(cluster.Paths{Run: "/run"})["acme.0"] }
	b.apply(etcd.Batch{Revision: 1, Events: []etcd.Event{placed, delivered(t, "hello", "1", 2)}})
	if w := look(); len(w.Functions) > 0 || w.FunctionsRevision != 0 {
		t.Errorf("without a manifest: %+v", w)
	}
	steps := []struct {
		sentence string
		event    etcd.Event
		code     string
		revision int64
	}{
		{"a manifest puts the copy in force", event(t, cluster.ManifestKey("h1", "acme"), manifest(5, "hello", 2), 5), "1", 5},
		{"a copy ahead of its manifest is in force, as of the old revision", delivered(t, "hello", "2", 6), "2", 5},
		{"then its manifest comes", event(t, cluster.ManifestKey("h1", "acme"), manifest(7, "hello", 6), 7), "2", 7},
		{"a manifest ahead of its copy changes nothing", event(t, cluster.ManifestKey("h1", "acme"), manifest(9, "hello", 8), 9), "2", 7},
		{"a bad copy leaves the last good one, and holds nobody up", delivered(t, "hello", "", 8), "2", 9},
		{"a garbled manifest changes nothing", etcd.Event{Key: cluster.ManifestKey("h1", "acme"), Value: []byte("{"), Revision: 10}, "2", 9},
		{"another host's copy is not ours", etcd.Event{Key: cluster.CopyKey("h2", "acme", "hello"), Value: []byte("{}"), Revision: 11}, "2", 9},
	}
	for _, s := range steps {
		b.apply(etcd.Batch{Revision: s.event.Revision, Events: []etcd.Event{s.event}})
		if w := look(); w.Functions["hello"].Code != s.code || w.FunctionsRevision != s.revision {
			t.Errorf("%s: got %q as of %d, want %q as of %d", s.sentence, w.Functions["hello"].Code, w.FunctionsRevision, s.code, s.revision)
		}
	}
	b.apply(etcd.Batch{Snapshot: true, Revision: 12, Events: []etcd.Event{placed}})
	if w := look(); len(w.Functions) > 0 || w.Missing == "" || len(b.deliveries) > 0 {
		t.Errorf("what a full list lacks stayed: %+v", w)
	}
}

func TestBookForgetsOnlyWhatIsGone(t *testing.T) {
	b := testBook(t, t.TempDir())
	good, other := event(t, cluster.PlacementKey("h1", "acme.0"), want(t).Placement, 1), want(t).Placement
	other.Instance = "acme.1"
	b.apply(etcd.Batch{Snapshot: true, Revision: 1, Events: []etcd.Event{good, event(t, cluster.PlacementKey("h1", "acme.1"), other, 1)}})

	garbled := etcd.Event{Key: good.Key, Value: []byte("{"), Revision: 2}
	b.apply(etcd.Batch{Revision: 2, Events: []etcd.Event{garbled}})
	if p, ok := b.placements["acme.0"]; !ok || p.revision != 1 {
		t.Error("a garbled value took the good one's place")
	}
	b.apply(etcd.Batch{Snapshot: true, Revision: 3, Events: []etcd.Event{garbled}})
	if _, ok := b.placements["acme.0"]; !ok {
		t.Error("a key that is garbled in a full list counted as gone")
	}
	if _, ok := b.placements["acme.1"]; ok {
		t.Error("a key that is absent from a full list stayed")
	}
	b.apply(etcd.Batch{Revision: 4, Events: []etcd.Event{{Key: good.Key, Deleted: true, Revision: 4}}})
	if len(b.placements) > 0 {
		t.Error("a deleted key stayed")
	}
}

func TestBookRefuses(t *testing.T) {
	w := want(t)
	bad := func(change func(*cluster.Placement)) []byte {
		p := w.Placement
		change(&p)
		data, _ := json.Marshal(p)
		return data
	}
	for _, c := range []struct {
		sentence, key string
		value         []byte
	}{
		{"a placement under another's key", cluster.PlacementKey("h1", "acme.1"), bad(func(*cluster.Placement) {})},
		{"a placement of another tenant's instance", cluster.PlacementKey("h1", "acme.0"), bad(func(p *cluster.Placement) { p.Tenant = "other" })},
		{"a placement without limits", cluster.PlacementKey("h1", "acme.0"), bad(func(p *cluster.Placement) { p.Resources.Memory = 0 })},
		{"a unit of the system's", cluster.UnitKey("h1", "sshd.service"), []byte("[Service]")},
		{"a unit with a path for a name", cluster.UnitsPrefix + "h1/../x.service", []byte("[Service]")},
		{"another host's key", cluster.PlacementKey("h2", "acme.0"), bad(func(*cluster.Placement) {})},
		{"a copy that is no function", cluster.CopyKey("h1", "acme", "hello"), []byte(`{"source":1,"function":{"code":1}}`)},
		{"a tenant's function itself", cluster.FunctionKey("acme", "hello"), []byte(`{"file":"a.js","code":"1"}`)},
	} {
		if testBook(t, t.TempDir()).take(etcd.Event{Key: c.key, Value: c.value, Revision: 1}) {
			t.Errorf("took %s", c.sentence)
		}
	}
}

func TestBookKeepsWhatItCouldNotKeepAtFirst(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "desired")
	b := testBook(t, dir)
	placed := etcd.Batch{Revision: 1, Events: []etcd.Event{event(t, cluster.PlacementKey("h1", "acme.0"), want(t).Placement, 1)}}
	if err := os.Rename(dir, dir+".away"); err != nil { // as good as a full disk
		t.Fatal(err)
	}
	b.apply(placed)
	b.keepRest()
	if len(b.placements) != 1 || len(b.unkept) != 1 {
		t.Fatalf("without a disk: %d placements, %d not kept; want one of each", len(b.placements), len(b.unkept))
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	b.keepRest()
	if again := testBook(t, dir); len(again.placements) != 1 || len(b.unkept) > 0 {
		t.Errorf("with a disk again: %d placements on it, %d not kept", len(again.placements), len(b.unkept))
	}
}

func TestDiskLeavesOutWhatIsDamaged(t *testing.T) {
	dir := t.TempDir()
	b := testBook(t, dir)
	b.apply(etcd.Batch{Snapshot: true, Events: []etcd.Event{event(t, cluster.PlacementKey("h1", "acme.0"), want(t).Placement, 1)}})
	for name, text := range map[string]string{"cut": "12", kept.HalfWritten + "123": "x", "%zz": "1\nx"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if b = testBook(t, dir); len(b.placements) != 1 {
		t.Errorf("placements: %v", b.placements)
	}
	files, _ := os.ReadDir(dir)
	for _, f := range files {
		if info, err := f.Info(); err != nil || strings.HasPrefix(f.Name(), kept.HalfWritten) {
			t.Errorf("left: %s (%v)", f.Name(), err)
		} else if strings.HasPrefix(f.Name(), "%2F") && info.Mode().Perm() != 0o600 {
			t.Errorf("%s can be read by others", f.Name())
		}
	}
}
