// Package host runs test hosts: containers with a real systemd as PID 1 and a
// real Docker Engine inside, as near to a CoreOS-style host as a container
// comes. The image is made by the script build in this directory.
//
// A host has no network of its own but loopback and the bridge of the outer
// engine; what a test needs inside goes in by CopyIn, and is run by Exec.
package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// bootTime is how long a host may take from start to systemd saying that it
// is up.
const bootTime = 90 * time.Second

// Host is a running test host.
type Host struct {
	Name string // of the container, and its host name
	t    testing.TB
}

// Image builds the hosts' image if it isn't there, and returns its name.
var Image = sync.OnceValues(func() (string, error) {
	cmd := exec.Command(filepath.Join(sourceDir(), "build"))
	var progress bytes.Buffer
	cmd.Stderr = &progress
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("cannot build the test host's image: %w\n%s", err, progress.String())
	}
	return strings.TrimSpace(string(out)), nil
})

func sourceDir() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(file)
}

// Start boots a host named after the test, and removes it when the test
// ends. It returns when systemd says that all is up, its Docker Engine too.
// Where there is no Docker or no root, it skips the test.
func Start(t testing.TB, name string) *Host {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	if err := exec.Command("docker", "info").Run(); err != nil {
		t.Skip("no Docker Engine")
	}
	image, err := Image()
	if err != nil {
		t.Fatal(err)
	}
	h := &Host{Name: "bulkhead-host-" + name, t: t}
	h.remove()
	if out, err := exec.Command("docker", append(runArgs(h.Name), image)...).CombinedOutput(); err != nil {
		t.Fatalf("cannot start host %s: %v: %s", h.Name, err, out)
	}
	t.Cleanup(h.remove)
	h.awaitBoot()
	return h
}

// runArgs are what a container needs for systemd and Docker to run in it. Not
// --privileged: that fails where the machine itself lacks a capability.
func runArgs(name string) []string {
	args := []string{"run", "--detach", "--name", name, "--hostname", name, "--stop-signal", "SIGRTMIN+3", "--cgroupns=private",
		"--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined", "--security-opt", "systempaths=unconfined",
		"--device-cgroup-rule", "a *:* rwm", "--tmpfs", "/run:exec", "--tmpfs", "/tmp:exec", "--volume", "/var/lib/docker"}
	for _, c := range []string{"SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "SYS_CHROOT", "MKNOD", "AUDIT_WRITE", "DAC_READ_SEARCH", "SYS_NICE", "SYSLOG", "NET_RAW"} {
		args = append(args, "--cap-add", c)
	}
	return args
}

// remove removes the container and its volume.
func (h *Host) remove() {
	h.thaw()
	exec.Command("docker", "rm", "--force", "--volumes", h.Name).Run()
}

// awaitBoot waits until systemd has started all there is to start.
func (h *Host) awaitBoot() {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), bootTime)
	defer cancel()
	for {
		// Until systemd listens, this fails at once; from then on it waits.
		out, err := h.run(ctx, nil, "systemctl", "is-system-running", "--wait")
		state := strings.TrimSpace(out)
		if err == nil || state == "degraded" {
			break
		}
		select {
		case <-ctx.Done():
			logs, _ := exec.Command("docker", "logs", "--tail=30", h.Name).CombinedOutput()
			h.t.Fatalf("host %s does not boot: %s: %v\n%s", h.Name, state, err, logs)
		case <-time.After(50 * time.Millisecond):
		}
	}
	if out, err := h.run(ctx, nil, "docker", "info"); err != nil {
		h.t.Fatalf("host %s has no Docker Engine: %v\n%s", h.Name, err, out)
	}
}

// Exec runs a command on the host and returns what it printed, both outputs
// together. It fails the test when the command fails.
func (h *Host) Exec(command ...string) string {
	h.t.Helper()
	out, err := h.Try(command...)
	if err != nil {
		h.t.Fatalf("%s on host %s: %v\n%s", strings.Join(command, " "), h.Name, err, out)
	}
	return out
}

// Try runs a command on the host and returns what it printed, and its error.
func (h *Host) Try(command ...string) (string, error) {
	return h.run(h.t.Context(), nil, command...)
}

// Feed runs a command on the host with this as its standard input.
func (h *Host) Feed(input io.Reader, command ...string) string {
	h.t.Helper()
	out, err := h.run(h.t.Context(), input, command...)
	if err != nil {
		h.t.Fatalf("%s on host %s: %v\n%s", strings.Join(command, " "), h.Name, err, out)
	}
	return out
}

func (h *Host) run(ctx context.Context, input io.Reader, command ...string) (string, error) {
	args := []string{"exec"}
	if input != nil {
		args = append(args, "--interactive")
	}
	cmd := exec.CommandContext(ctx, "docker", append(append(args, h.Name), command...)...)
	cmd.Stdin = input
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// CopyIn copies a file or directory of this machine to a path on the host,
// whose directory is made. (Not "docker cp", which can't see a container's
// tmpfs.)
func (h *Host) CopyIn(from, to string) {
	h.t.Helper()
	info, err := os.Stat(from)
	if err != nil {
		h.t.Fatal(err)
	}
	if info.IsDir() {
		tar := exec.Command("tar", "--create", "--directory", from, ".")
		pipe, err := tar.StdoutPipe()
		if err = errors.Join(err, tar.Start()); err != nil {
			h.t.Fatal(err)
		}
		h.Exec("mkdir", "-p", to)
		h.Feed(pipe, "tar", "--extract", "--directory", to)
		if err := tar.Wait(); err != nil {
			h.t.Fatal(err)
		}
		return
	}
	f, err := os.Open(from)
	if err != nil {
		h.t.Fatal(err)
	}
	defer f.Close()
	h.Exec("mkdir", "-p", filepath.Dir(to))
	h.Feed(f, "sh", "-c", fmt.Sprintf("cat >'%s.new' && chmod %o '%s.new' && mv '%s.new' '%s'", to, info.Mode().Perm(), to, to, to))
}

// LoadImage gives the host's Docker Engine an image of this machine's, and
// returns once it is there under the same ID.
func (h *Host) LoadImage(id string) {
	h.t.Helper()
	save := exec.Command("docker", "save", id)
	pipe, err := save.StdoutPipe()
	if err = errors.Join(err, save.Start()); err != nil {
		h.t.Fatal(err)
	}
	h.Feed(pipe, "docker", "load", "--quiet")
	if err := save.Wait(); err != nil {
		h.t.Fatal(err)
	}
}

// Reboot stops the host and boots it again: what was in /run and /tmp is
// gone, what was on disk is there.
func (h *Host) Reboot() {
	h.t.Helper()
	h.thaw()
	if out, err := exec.Command("docker", "restart", "--time=30", h.Name).CombinedOutput(); err != nil {
		h.t.Fatalf("cannot reboot host %s: %v: %s", h.Name, err, out)
	}
	h.awaitBoot()
}

// thaw thaws what is frozen on the host: with version 1 of cgroups a frozen
// process can't be killed, and the host would not end before it.
func (h *Host) thaw() {
	h.Try("sh", "-c", "find /sys/fs/cgroup/freezer -name freezer.state | while read -r f; do echo THAWED >\"$f\"; done")
}

// Address returns the host's address on the outer engine's bridge.
func (h *Host) Address() string {
	h.t.Helper()
	out, err := exec.Command("docker", "inspect", "--format", "{{.NetworkSettings.IPAddress}}", h.Name).Output()
	if err != nil {
		h.t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}
