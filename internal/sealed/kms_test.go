package sealed

import (
	"crypto/rand"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// startPlugin builds and runs a KMS plug-in with a key of its own.
func startPlugin(t *testing.T) (socket string, stop func()) {
	t.Helper()
	dir := t.TempDir()
	program, key := filepath.Join(dir, "plugin"), filepath.Join(dir, "key")
	if out, err := exec.Command("go", "build", "-o", program, "./testdata/plugin").CombinedOutput(); err != nil {
		t.Fatalf("cannot build the plug-in: %v\n%s", err, out)
	}
	random := make([]byte, 32)
	rand.Read(random)
	if err := os.WriteFile(key, random, 0o600); err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(dir, "kms.sock")
	cmd := exec.Command(program, socket, key)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = func() { cmd.Process.Kill(); cmd.Wait() }
	t.Cleanup(stop)
	for deadline := time.Now().Add(30 * time.Second); ; { // it tells nobody that it listens
		c, err := net.Dial("unix", socket)
		if err == nil {
			c.Close()
			return socket, stop
		}
		if time.Now().After(deadline) {
			t.Fatalf("the plug-in does not listen: %v", err)
		}
	}
}

func TestARingIsWrappedByAKeyManagementService(t *testing.T) {
	socket, stop := startPlugin(t)
	other, _ := startPlugin(t)
	r, l := newRing(t)
	file := File{Path: filepath.Join(t.TempDir(), "ring.json"), KMS: socket}
	if err := file.Write(r); err != nil {
		t.Fatal(err)
	}
	plain, err := r.encode()
	if err != nil {
		t.Fatal(err)
	}
	_, key, _ := strings.Cut(string(plain), `"value":"`)
	key, _, _ = strings.Cut(key, `"`)
	data, err := os.ReadFile(file.Path)
	if err != nil || len(key) < 40 || strings.Contains(string(data), key) {
		t.Fatalf("the wrapped file holds the key: %s, %v", data, err)
	}
	again, err := file.Read()
	if err != nil || !slices.Equal(again.IDs(), r.IDs()) {
		t.Fatalf("%v, %v", again, err)
	}
	if got, err := again.Open("here", seal(t, l, "here", "one")); err != nil || string(got) != "one" {
		t.Fatalf("opened as %q, %v", got, err)
	}
	for name, wrong := range map[string]File{"none": {Path: file.Path}, "another": {Path: file.Path, KMS: other}} {
		if _, err := wrong.Read(); err == nil {
			t.Errorf("read with %s", name)
		} else {
			t.Logf("with %s: %v", name, err)
		}
	}
	for i := range data { // no byte of it can be changed unnoticed, or ends us
		changed := slices.Clone(data)
		changed[i] ^= 1
		if err := os.WriteFile(file.Path, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := file.Read(); err == nil && !slices.Equal(got.IDs(), r.IDs()) {
			t.Errorf("with byte %d changed it has keys %v", i, got.IDs())
		}
	}
	if err := os.WriteFile(file.Path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	stop()
	if _, err := file.Read(); err == nil || !strings.Contains(err.Error(), socket) {
		t.Errorf("without the plug-in: %v, want its socket in it", err)
	}
}
