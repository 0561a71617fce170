// Package host runs test hosts: containers with a real systemd as PID 1 and a
// real Docker Engine inside, as near to a CoreOS-style host as a container
// comes. The image is made by the script build in this directory.
//
// A host has no network of its own but loopback and the bridge of the outer
// engine; what a test needs inside goes in by CopyIn, and is run by Exec.
package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead/test/host/fleet"
)

// Host is a running test host.
type Host struct {
	Name string // of the container
	Node string // its name in a cluster; empty: it is in none
	t    testing.TB
	ip   string   // on its cluster's network
	ssh  []string // how to run commands on it, if it is no container
}

func (h *Host) container() fleet.Container { return fleet.Container(h.Name) }

// Start boots a host named after the test, and removes it when the test
// ends. It returns when systemd says that all is up, its Docker Engine too.
// Where there is no Docker or no root, it skips the test.
func Start(t testing.TB, name string) *Host {
	t.Helper()
	need(t)
	h := &Host{Name: "bulkhead-host-" + name, t: t}
	h.must(h.container().Remove(t.Context()))
	t.Cleanup(h.remove)
	h.must(h.container().Create(t.Context(), h.Name))
	h.must(h.container().Start(t.Context()))
	h.must(h.container().Await(t.Context()))
	return h
}

// need skips the test where there is no root or no Docker.
func need(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	if err := exec.Command("docker", "info").Run(); err != nil {
		t.Skip("no Docker Engine")
	}
}

func (h *Host) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// remove removes the container and its volume, the test's end or not.
func (h *Host) remove() {
	if err := h.container().Remove(context.Background()); err != nil {
		h.t.Error(err)
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
	if h.ssh != nil {
		return overSSH(ctx, h.ssh, input, command)
	}
	return h.container().Run(ctx, input, command...)
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
	h.Stop()
	h.Start()
}

// Stop shuts the host down.
func (h *Host) Stop() {
	h.t.Helper()
	h.must(h.container().Stop(h.t.Context()))
}

// Start boots a host that was stopped or killed, and waits until it is up.
func (h *Host) Start() {
	h.t.Helper()
	h.must(h.container().Start(h.t.Context()))
	h.must(h.container().Await(h.t.Context()))
}

// Kill ends the host as a power cut does.
func (h *Host) Kill() {
	h.t.Helper()
	h.must(h.container().Kill(h.t.Context()))
}

// Pause stops the host's time, until Unpause.
func (h *Host) Pause() {
	h.t.Helper()
	h.must(h.container().Pause(h.t.Context()))
}

// Unpause lets a paused host go on.
func (h *Host) Unpause() {
	h.t.Helper()
	h.must(h.container().Unpause(h.t.Context()))
}

// Partition cuts the host off from others, or from everybody when none are
// given; whoever sends gets no answer. Heal ends it.
func (h *Host) Partition(from ...*Host) {
	h.t.Helper()
	var addresses []string
	for _, other := range from {
		addresses = append(addresses, other.Address())
	}
	h.must(h.container().Partition(h.t.Context(), addresses...))
}

// Heal ends every partition of the host.
func (h *Host) Heal() {
	h.t.Helper()
	h.must(h.container().Heal(h.t.Context()))
}

// Address returns the host's address on its cluster's network, or else on the
// outer engine's bridge.
func (h *Host) Address() string {
	h.t.Helper()
	if h.ip != "" {
		return h.ip
	}
	out, err := exec.Command("docker", "inspect", "--format", "{{.NetworkSettings.IPAddress}}", h.Name).Output()
	if err != nil {
		h.t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}
