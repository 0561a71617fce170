package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"bulkhead/agent"
	"bulkhead/agent/docker"
	"bulkhead/agent/facts"
	"bulkhead/agent/supervisor"
	"bulkhead/agent/systemd"
	"bulkhead/cluster"
	"bulkhead/units"
)

// imageFile in the state directory names the image last built here.
const imageFile = "image"

// hostName makes a host's name of a machine's: its first label, lower-case.
func hostName(name string) string {
	name, _, _ = strings.Cut(strings.ToLower(name), ".")
	if cluster.CheckHost(name) != nil {
		return "localhost"
	}
	return name
}

// check finds early what would fail late.
func (o upOptions) check() error {
	if os.Geteuid() != 0 {
		return fail(exitFailure, "run it with sudo, or as root", "bulkhead up needs root: it starts containers and jails")
	}
	if err := cluster.CheckHost(o.name); err != nil {
		return fail(exitInvalid, "give a good one with --host", "%w", err)
	}
	if o.overcommit < 1 || o.overcommit > 1000 {
		return fail(exitUsage, "1 promises each core once, 8 is the default", "--overcommit-cpu %g: want 1 to 1000", o.overcommit)
	}
	for _, dir := range []string{o.state, o.run} {
		if !filepath.IsAbs(dir) {
			return fail(exitUsage, "give an absolute path", "directory %q is relative", dir)
		}
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return fail(exitFailure, "make room, or choose another with --state and --run", "cannot make %s: %w", dir, err)
		}
	}
	return checkDisk(o.state)
}

// minFree is the least free disk that etcd and the containers' logs may start
// with: 512 MiB.
const minFree = 512 << 20

func checkDisk(dir string) error {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return fmt.Errorf("cannot tell how much disk is free below %s: %w", dir, err)
	}
	if free := int64(s.Bavail) * s.Bsize; free < minFree {
		return fail(exitFailure, "free some, or choose another directory with --state", "the disk of %s has %d MiB free; %d MiB are needed", dir, free>>20, minFree>>20)
	}
	return nil
}

// lockUp lets one "up" use a state directory, and says who has it.
func lockUp(state string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(state, "up.pid"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot lock %s: %w", state, err)
	}
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		pid, _ := io.ReadAll(f)
		f.Close()
		return nil, fail(exitFailure, "use it as it is, or end it first: bulkhead down", "bulkhead is up already, as process %s", strings.Fields(string(pid) + " ?")[0])
	}
	if err := errors.Join(f.Truncate(0), writeAt(f, strconv.Itoa(os.Getpid())+"\n")); err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot note our process id: %w", err)
	}
	return func() { f.Truncate(0); f.Close() }, nil
}

func writeAt(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}

// markReady notes, for scripts that wait, that everything runs.
func markReady(state string) error {
	f, err := os.OpenFile(filepath.Join(state, "up.pid"), os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("cannot note that we are ready: %w", err)
	}
	defer f.Close()
	_, err = f.WriteString("ready\n")
	return err
}

// readUp returns the process that holds the lock; 0 when none does.
func readUp(state string) (pid int, ready bool) {
	f, err := os.Open(filepath.Join(state, "up.pid"))
	if err != nil {
		return 0, false
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) == nil {
		return 0, false
	}
	data, _ := io.ReadAll(f)
	lines := strings.Fields(string(data))
	if len(lines) == 0 {
		return 0, false
	}
	pid, _ = strconv.Atoi(lines[0])
	return pid, len(lines) > 1
}

// openEngine connects to Docker and fails early when it is not there.
func openEngine(ctx context.Context, host string, log *slog.Logger) (*docker.Engine, error) {
	e, err := docker.Open(host, log.With("part", "docker"))
	if err != nil {
		return nil, err
	}
	if _, err := e.Version(ctx); err != nil {
		e.Close()
		return nil, fail(exitFailure, "start it (systemctl start docker, or dockerd &), or see why it ends: journalctl -u docker", "cannot reach the Docker Engine: %w", err)
	}
	return e, nil
}

// thisHost is this host as others see it.
func thisHost(ctx context.Context, o upOptions, engine *docker.Engine) (cluster.Host, error) {
	capacity, err := facts.Capacity()
	if err != nil {
		return cluster.Host{}, err
	}
	boot, err := facts.Boot()
	if err != nil {
		return cluster.Host{}, err
	}
	docker, err := engine.Version(ctx)
	if err != nil {
		return cluster.Host{}, err
	}
	runner, err := installBinary("bulkhead-runner", filepath.Join(o.state, "bin"))
	if err != nil {
		return cluster.Host{}, err
	}
	image, err := chooseImage(ctx, o, engine)
	if err != nil {
		return cluster.Host{}, err
	}
	h := cluster.Host{
		Name: o.name, Cores: capacity.CPU, Capacity: capacity, Labels: o.labels, Init: "supervisor", Boot: boot, Image: image,
		Paths:    cluster.Paths{Run: o.run, State: o.state, Runner: runner},
		ProxyGID: agent.ProxyUID,
		Versions: map[string]string{"os": facts.OS(), "kernel": facts.Kernel(), "docker": docker, "bulkhead": version},
	}
	h.Capacity.CPU *= o.overcommit
	if facts.Systemd() {
		h.Init = "systemd"
	}
	return h, nil
}

// chooseImage is the image asked for, or the one last built here; it must be
// with Docker.
func chooseImage(ctx context.Context, o upOptions, engine *docker.Engine) (string, error) {
	id := o.image
	if id == "" {
		data, err := os.ReadFile(filepath.Join(o.state, imageFile))
		if err != nil {
			return "", fail(exitFailure, "build it: bulkhead image build", "there is no image for tenants' code yet")
		}
		id = strings.TrimSpace(string(data))
	}
	has, err := engine.HasImage(ctx, id)
	if err != nil {
		return "", err
	}
	if !has {
		return "", fail(exitFailure, "build it again: bulkhead image build", "Docker has no image %s", shortID(id))
	}
	return id, nil
}

// installBinary copies a binary that stands beside ours to a name with its
// digest, so that an upgrade never writes into what runs.
func installBinary(name, dir string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("cannot find our own binary: %w", err)
	}
	from := filepath.Join(filepath.Dir(self), name)
	if name == "bulkhead" {
		from = self
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return "", fail(exitFailure, "build it (scripts/build); it belongs beside the bulkhead binary", "cannot install %s: %w", name, err)
	}
	sum := sha256.Sum256(data)
	to := filepath.Join(dir, name+"-"+hex.EncodeToString(sum[:6]))
	if _, err := os.Stat(to); err == nil {
		return to, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("cannot install %s: %w", name, err)
	}
	tmp := to + ".new"
	if err := errors.Join(os.WriteFile(tmp, data, 0o755), os.Rename(tmp, to)); err != nil {
		return "", fmt.Errorf("cannot install %s: %w", name, err)
	}
	return to, nil
}

// openServices is what runs units here.
func openServices(ctx context.Context, o upOptions, log *slog.Logger) (agent.Services, func(), error) {
	if facts.Systemd() {
		s, err := systemd.Open(ctx, log.With("part", "systemd"))
		if err != nil {
			return nil, nil, err
		}
		return s, func() { s.Close() }, nil
	}
	s, err := supervisor.Open(o.run, o.state, log.With("part", "supervisor"))
	if err != nil {
		return nil, nil, err
	}
	return s, func() { s.Close() }, nil
}

// startProxy has the proxy's units run, as they should be: its socket is held
// by whoever runs units, so a proxy of another version takes over unnoticed.
func startProxy(ctx context.Context, o upOptions, host cluster.Host, services agent.Services) error {
	binary, err := installBinary("bulkhead", filepath.Join(o.state, "bin"))
	if err != nil {
		return err
	}
	args := []string{"proxy", "--host", host.Name, "--endpoints", o.etcd, "--state", units.ProxyState(host.Paths)}
	if o.domain != "" {
		args = append(args, "--domain", o.domain)
	}
	rendered, err := units.RenderProxy(host, units.Proxy{
		Binary: binary, Args: args, Listen: o.listen, UID: agent.ProxyUID, GID: host.ProxyGID, Network: true,
	})
	if err != nil {
		return err
	}
	for dir, owner := range map[string]int{units.ProxyRoot(host.Paths): 0, units.ProxyState(host.Paths): agent.ProxyUID, filepath.Join(o.run, "instances"): 0} {
		if err := errors.Join(os.MkdirAll(dir, 0o711), os.Chown(dir, owner, owner)); err != nil {
			return fmt.Errorf("cannot make the proxy's directories: %w", err)
		}
	}
	stale, err := proxyIsStale(ctx, services, rendered)
	if err != nil {
		return err
	}
	if err := services.Write(ctx, rendered...); err != nil {
		return err
	}
	if err := services.Start(ctx, units.ProxySocket); err != nil {
		return fail(exitFailure, "stop what uses the port (ss -ltnp shows), or choose another with --listen", "cannot start the proxy: %w", err)
	}
	if stale {
		return services.Restart(ctx, units.ProxyService)
	}
	return services.Start(ctx, units.ProxyService)
}

// proxyIsStale reports whether a proxy runs whose unit is not this one.
func proxyIsStale(ctx context.Context, services agent.Services, rendered []units.Unit) (bool, error) {
	states, err := services.States(ctx, "bulkhead-proxy")
	if err != nil {
		return false, err
	}
	for _, s := range states {
		for _, u := range rendered {
			if s.Name == units.ProxyService && u.Name == s.Name && s.Up() {
				return s.Text != u.Text, nil
			}
		}
	}
	return false, nil
}

func hostPort(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return raw
	}
	return u.Host
}

func shortID(id string) string {
	id = strings.TrimPrefix(id, "sha256:")
	return id[:min(12, len(id))]
}
