package node

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

// buildCache is shared by test runs, so that Node is fetched once.
func buildCache(t *testing.T) string {
	dir := os.Getenv("BULKHEAD_CACHE")
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		dir = filepath.Join(base, "bulkhead", "image")
	}
	return dir
}

func buildCell(t *testing.T) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "cell")
	cmd := exec.Command("go", "build", "-trimpath", "-o", out, "bulkhead/cmd/bulkhead-cell")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cannot build the cell: %v\n%s", err, b)
	}
	return out
}

// Two builds in different places give one digest, and the image holds what a
// container needs and nothing that would help an intruder.
func TestBuildIsReproducibleAndBare(t *testing.T) {
	cell, cache := buildCell(t), buildCache(t)
	a, err := Build(t.Context(), Options{Cell: cell, Cache: cache, Out: filepath.Join(t.TempDir(), "a.tar")}, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	b, err := Build(t.Context(), Options{Cell: cell, Cache: cache, Out: filepath.Join(t.TempDir(), "b.tar")}, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	if a.ID != b.ID {
		t.Errorf("two builds gave %s and %s", a.ID, b.ID)
	}
	files, ids := contents(t, a.Tar)
	if len(ids) != 1 || ids[0] != a.ID {
		t.Errorf("the archive holds images %v, Build said %s", ids, a.ID)
	}
	for _, want := range []string{"cell", "usr/bin/node", "lib64/ld-linux-x86-64.so.2", "lib/x86_64-linux-gnu/libc.so.6", "lib/x86_64-linux-gnu/libatomic.so.1", "etc/ssl/certs/ca-certificates.crt", "usr/share/zoneinfo/Europe/Berlin", "usr/lib/bulkhead/harness/main.js", "run/cell/", "tmp/"} {
		if !files[want] {
			t.Errorf("the image lacks %s", want)
		}
	}
	for name := range files {
		switch path.Base(name) {
		case "sh", "bash", "dash", "busybox", "npm", "apt", "dpkg", "perl", "python3":
			t.Errorf("the image holds %s", name)
		}
	}
}

// contents lists an image archive's files, and its image IDs by its manifest.
func contents(t *testing.T, archive string) (files map[string]bool, ids []string) {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	files = map[string]bool{}
	eachEntry(t, f, func(h *tar.Header, r io.Reader) {
		if strings.HasSuffix(h.Name, "/layer.tar") {
			eachEntry(t, r, func(h *tar.Header, _ io.Reader) {
				files[h.Name] = true
				if h.Mode&0o6000 != 0 || h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock {
					t.Errorf("%s in the image sets a user or group, or is a device: mode %o", h.Name, h.Mode)
				}
			})
		}
		if h.Name == "manifest.json" {
			var m []struct{ Config string }
			if err := json.NewDecoder(r).Decode(&m); err != nil {
				t.Fatal(err)
			}
			for _, i := range m {
				ids = append(ids, "sha256:"+strings.TrimSuffix(i.Config, ".json"))
			}
		}
	})
	return files, ids
}

func eachEntry(t *testing.T, r io.Reader, each func(*tar.Header, io.Reader)) {
	t.Helper()
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		each(h, tr)
	}
}

// A tarball that is not the pinned one is refused, whoever delivered it.
func TestVerifyRefusesAnotherTarball(t *testing.T) {
	p := filepath.Join(t.TempDir(), "x.tgz")
	if err := os.WriteFile(p, []byte("not node"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := verify(p, pinned().integrity); err == nil || !strings.Contains(err.Error(), "pinned is sha512-") {
		t.Errorf("want a refusal that names both digests, got %v", err)
	}
}
