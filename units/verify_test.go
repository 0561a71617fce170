package units

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// needAnalyze skips where systemd isn't installed; it need not run.
func needAnalyze(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is not installed")
	}
}

// TestSystemdAcceptsRenderedUnits verifies the units below a root that has
// systemd's own units and what ExecStart= names, which "verify" looks for
// outside of RootDirectory=.
func TestSystemdAcceptsRenderedUnits(t *testing.T) {
	needAnalyze(t)
	root := t.TempDir()
	dir := filepath.Join(root, "etc/systemd/system")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(root, "usr/lib/systemd/system"), os.DirFS("/usr/lib/systemd/system")); err != nil {
		t.Fatal(err)
	}
	for _, exe := range []string{"runner", "bulkhead"} {
		if err := os.WriteFile(filepath.Join(root, exe), []byte("#!/bin/true\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"verify", "--man=no", "--root=" + root}
	for _, u := range renderAll(t) {
		if err := os.WriteFile(filepath.Join(dir, u.Name), []byte(u.Text), 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, u.Name)
	}
	out, err := exec.Command("systemd-analyze", args...).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// TestExposureOfServices holds each jail to what "systemd-analyze security"
// calls its exposure, in tenths: 1 is 0.1.
func TestExposureOfServices(t *testing.T) {
	needAnalyze(t)
	networked := testProxy
	networked.Network = true
	us := renderAll(t)
	ps, err := RenderProxy(testHost, networked)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		sentence string
		unit     Unit
		tenths   int
	}{
		{"a runner holds a tenant's secret", us[3], 1},
		{"a proxy without network holds only sockets", us[7], 3},
		{"a proxy that talks to other hosts can open Internet sockets, and nothing more", ps[3], 10},
	} {
		path := filepath.Join(t.TempDir(), c.unit.Name)
		if err := os.WriteFile(path, []byte(c.unit.Text), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold="+strconv.Itoa(c.tenths), path).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %s: %v\n%s", c.sentence, c.unit.Name, err, out)
		}
	}
}
