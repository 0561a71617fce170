package host

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestHostHasSystemdAndDocker(t *testing.T) {
	h := Start(t, "selftest")
	if comm := strings.TrimSpace(h.Exec("cat", "/proc/1/comm")); comm != "systemd" {
		t.Errorf("PID 1 is %s, want systemd", comm)
	}
	if driver := strings.TrimSpace(h.Exec("docker", "info", "--format", "{{.CgroupDriver}}")); driver != "systemd" {
		t.Errorf("Docker's cgroup driver is %s, want systemd", driver)
	}
	if failed := strings.TrimSpace(h.Exec("systemctl", "list-units", "--failed", "--no-legend", "--plain")); failed != "" {
		t.Errorf("failed units: %s", failed)
	}
	local := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(local, []byte("text"), 0o755); err != nil {
		t.Fatal(err)
	}
	h.CopyIn(local, "/tmp/in/file")
	h.CopyIn(filepath.Dir(local), "/tmp/dir")
	if got := h.Exec("sh", "-c", "cat /tmp/in/file /tmp/dir/file; test -x /tmp/in/file"); got != "texttext" {
		t.Errorf("copied in: %q", got)
	}
	h.Exec("systemd-run", "--wait", "--pipe", "-p", "DynamicUser=yes", "-p", "LoadCredential=c:/tmp/in/file", "sh", "-c", `test "$(cat $CREDENTIALS_DIRECTORY/c)" = text`)
}
