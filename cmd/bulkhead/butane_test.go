package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// artifacts are files that stand for what hosts fetch, and an archive like
// those that "image build" writes.
func artifacts(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"bulkhead", "bulkhead-runner", "bulkhead-cell", "bulkhead-jail"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	manifest := `[{"Config": "` + strings.Repeat("ab", 32) + `.json"}]`
	err := errors.Join(
		w.WriteHeader(&tar.Header{Name: "layer.tar", Size: 1, Mode: 0o644}), write(w, "x"),
		w.WriteHeader(&tar.Header{Name: "manifest.json", Size: int64(len(manifest)), Mode: 0o644}), write(w, manifest),
		w.Close(), os.WriteFile(filepath.Join(dir, "image.tar"), archive.Bytes(), 0o644),
	)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(w io.Writer, text string) error {
	_, err := io.WriteString(w, text)
	return err
}

const twoHosts = `
name: test
artifacts: http://10.0.0.9
hosts:
  - {name: h1, address: 10.0.0.1, roles: [control, host]}
  - {name: h2, address: 10.0.0.2, roles: [host]}
`

func TestButaneRenderAndPack(t *testing.T) {
	dir := t.TempDir()
	file, pki, out := filepath.Join(dir, "cluster.yaml"), filepath.Join(dir, "pki"), filepath.Join(dir, "out")
	if err := os.WriteFile(file, []byte(twoHosts), 0o600); err != nil {
		t.Fatal(err)
	}
	do := func(args ...string) (int, string, string) {
		t.Helper()
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), args, stdio{nil, &stdout, &stderr})
		return code, stdout.String(), stderr.String()
	}
	render := []string{"butane", "render", "--cluster", file, "--pki", pki, "--artifacts", artifacts(t)}

	if code, _, said := do(append(render, "--out", out)...); code != exitOK || !strings.Contains(said, "certificate hosts/h2/agent made: there was none") {
		t.Fatalf("exit code %d: %s", code, said)
	}
	for _, name := range []string{"h1.bu", "h1.ign", "h2.bu", "h2.ign"} {
		info, err := os.Stat(filepath.Join(out, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
	code, first, said := do(append(render, "--host", "h2")...)
	want, err := os.ReadFile(filepath.Join(out, "h2.ign"))
	if code != exitOK || err != nil || first != string(want) || said != "" {
		t.Errorf("rendered again, host h2 is another: exit code %d, %q", code, said)
	}
	for _, c := range []struct {
		sentence string
		args     []string
		code     int
		want     string
	}{
		{"two hosts don't fit standard output", render, exitUsage, "give --out DIR"},
		{"a host that isn't there", append(render, "--host", "h9"), exitNotFound, `no host "h9"`},
		{"artifacts that aren't there", append(render, "--host", "h1", "--artifacts", dir), exitNotFound, "image.tar"},
		{"no file", []string{"pki", "renew", "--cluster", dir + "/none", "--pki", pki}, exitNotFound, "there is no file"},
		{"certificates elsewhere", []string{"pki", "show", "--pki", dir + "/none"}, exitNotFound, "no certificates of a cluster"},
		{"a host's certificates elsewhere", []string{"pki", "pack", "--cluster", file, "--host", "h2", "--pki", dir + "/none"}, exitNotFound, "no certificates of a cluster"},
	} {
		if code, _, said := do(c.args...); code != c.code || !strings.Contains(said, c.want) {
			t.Errorf("%s: exit code %d: %s", c.sentence, code, said)
		}
	}

	code, archive, said := do("pki", "pack", "--cluster", file, "--pki", pki, "--host", "h2")
	if code != exitOK {
		t.Fatalf("exit code %d: %s", code, said)
	}
	owners := map[string]int{}
	for r := tar.NewReader(strings.NewReader(archive)); ; {
		head, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if (strings.HasSuffix(head.Name, ".key") || strings.HasSuffix(head.Name, ringName)) && head.Mode != 0o600 {
			t.Errorf("%s has mode %o", head.Name, head.Mode)
		}
		owners[head.Name] = head.Uid
	}
	if len(owners) != 9 || owners["etc/bulkhead/pki/"+ringName] != 0 || owners["etc/bulkhead/pki/proxy/peer.key"] != 400000 || owners["etc/bulkhead/pki/agent.key"] != 0 {
		t.Errorf("packed: %v", owners)
	}
	if code, list, _ := do("pki", "show", "--pki", pki); code != exitOK || !strings.Contains(list, "hosts/h1/etcd-server") {
		t.Errorf("exit code %d: %s", code, list)
	}
}
