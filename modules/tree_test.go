package modules

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAHostileTarStaysInside(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	for sentence, h := range map[string]tar.Header{
		"a way up":          {Name: "../../" + filepath.Base(outside) + "/x", Typeflag: tar.TypeReg},
		"an absolute path":  {Name: outside + "/x", Typeflag: tar.TypeReg},
		"a directory above": {Name: "../x", Typeflag: tar.TypeDir},
	} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		h.Mode = 0o644
		_ = w.WriteHeader(&h)
		_ = w.Close()
		if err := unpack(&b, dir); err == nil {
			t.Errorf("%s is taken", sentence)
		}
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []tar.Header{
		{Name: "out", Typeflag: tar.TypeSymlink, Linkname: outside}, {Name: "dev", Typeflag: tar.TypeChar}, {Name: "hard", Typeflag: tar.TypeLink, Linkname: "/etc/passwd"},
		{Name: "out/x", Typeflag: tar.TypeReg, Mode: 0o4755}, {Name: "./good", Typeflag: tar.TypeReg, Mode: 0o600},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	_ = w.Close()
	if err := unpack(&b, dir); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(outside); len(left) > 0 {
		t.Errorf("it got out: %v", left)
	}
	info, err := os.Stat(filepath.Join(dir, "out/x"))
	if err != nil || info.Mode() != 0o755 {
		t.Errorf("out/x: %v, %v", info, err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "hard")); err == nil {
		t.Error("a link was made")
	}
}

func TestATarThatIsTooLargeIsRefused(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	_ = w.WriteHeader(&tar.Header{Name: "huge", Typeflag: tar.TypeReg, Size: int64(MaxSet) + 1, Mode: 0o644})
	if err := unpack(&b, t.TempDir()); err == nil || !strings.Contains(err.Error(), "want fewer packages") {
		t.Errorf("got %v", err)
	}
}

func TestAnArchiveHasNoLinksAndNothingThatOnlyBuildingNeeds(t *testing.T) {
	dir, archives := t.TempDir(), t.TempDir()
	for name, mode := range map[string]os.FileMode{
		"package-lock.json": 0o600, "node_modules/a/index.js": 0o640, "node_modules/a/tool": 0o4711, "node_modules/.bin/tool": 0o755, "node_modules/.package-lock.json": 0o644,
		"node_modules/a/build/Release/obj.target/a.o": 0o644, "node_modules/a/build/Release/a.node": 0o755, "node_modules/a/node_modules/.bin/x": 0o755, "package.json": 0o644,
	} {
		p := filepath.Join(dir, name)
		if err := firstOf(os.MkdirAll(filepath.Dir(p), 0o700), os.WriteFile(p, []byte(name), 0o600), os.Chmod(p, mode)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "node_modules/a/passwd")); err != nil {
		t.Fatal(err)
	}
	first, _, err := archive(dir, archives)
	if err != nil {
		t.Fatal(err)
	}
	again, _, err := archive(dir, archives)
	if err != nil || again != first {
		t.Errorf("archived again it is %s, %v", again, err)
	}
	m := &Maker{State: t.TempDir()}
	if err := firstOf(os.MkdirAll(ArchivesDir(m.State), 0o700), os.Rename(filepath.Join(archives, first+".tar"), filepath.Join(ArchivesDir(m.State), first+".tar"))); err != nil {
		t.Fatal(err)
	}
	var names []string
	for name := range contents(t, m, first) {
		if !strings.HasSuffix(name, "/") {
			names = append(names, name)
		}
	}
	if len(names) != 4 {
		t.Errorf("the archive has %v", names)
	}
}
