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
	b, err := openBook("h1", disk(dir), slog.New(slog.NewTextHandler(t.Output(), nil)))
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
	b.apply(batch)
	b.applyFunctions("acme", etcd.Batch{Snapshot: true, Revision: 9, Events: []etcd.Event{
		event(t, cluster.FunctionKey("acme", "hello.v2"), cluster.Function{File: "hello.js", Code: "1"}, 8),
	}})

	again := testBook(t, dir).desired(cluster.Paths{Run: "/run"})["acme.0"]
	if again.Missing != "" || again.Revision != 7 || len(again.Units) != 4 || len(again.Functions) != 1 {
		t.Fatalf("after a reboot: %+v", again)
	}
	if before := b.desired(cluster.Paths{Run: "/run"})["acme.0"]; before.Config() != again.Config() {
		t.Error("a reboot changes what the runner is told")
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
		{"a function that is no function", cluster.FunctionKey("acme", "hello"), []byte(`{"code":1}`)},
	} {
		if testBook(t, t.TempDir()).take(etcd.Event{Key: c.key, Value: c.value, Revision: 1}) {
			t.Errorf("took %s", c.sentence)
		}
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
