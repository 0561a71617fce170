// Package dockertest makes small images for tests of what runs containers.
package dockertest

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
)

// Client returns a client of this machine's engine, or skips the test where
// there is none.
func Client(t testing.TB) *client.Client {
	t.Helper()
	c, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := c.Ping(t.Context()); err != nil {
		t.Skipf("no Docker Engine: %v", err)
	}
	return c
}

// ProbeEnv names an image of the probe that is there already, for tests that
// run where nothing can be built.
const ProbeEnv = "BULKHEAD_TEST_PROBE"

// Probe makes an image whose program listens on /run/cell/control.sock, as a
// cell does, and answers each connection with what it finds out about its
// own confinement; with the argument "exit" it ends at once with code 3, with
// "calls" it tries system calls instead. It returns the image's ID; the image goes when the test ends.
func Probe(t testing.TB, args ...string) string {
	t.Helper()
	if given := os.Getenv(ProbeEnv); given != "" && len(args) == 0 {
		return given
	}
	c := Client(t)
	entry, err := json.Marshal(append([]string{"/probe"}, args...))
	if err != nil {
		t.Fatal(err)
	}
	source := image.ImportSource{Source: archive(t, build(t)), SourceName: "-"}
	r, err := c.ImageImport(t.Context(), source, "", image.ImportOptions{Changes: []string{"ENTRYPOINT " + string(entry)}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var last struct{ Status string }
	for d := json.NewDecoder(r); ; {
		if err := d.Decode(&last); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	ctx := context.WithoutCancel(t.Context()) // which ends before cleaning up
	t.Cleanup(func() { c.ImageRemove(ctx, last.Status, image.RemoveOptions{Force: true}) })
	return last.Status
}

func build(t testing.TB) []byte {
	bin := filepath.Join(t.TempDir(), "probe")
	build := exec.Command("go", "build", "-o", bin, "bulkhead/agent/docker/dockertest/probe")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("cannot build probe: %v\n%s", err, out)
	}
	text, err := os.ReadFile(bin)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func archive(t testing.TB, probe []byte) io.Reader {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range []*tar.Header{
		{Name: "run/cell/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o777},
		{Name: "probe", Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(probe))},
	} {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
	}
	w.Write(probe)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}
