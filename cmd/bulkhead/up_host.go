package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"bulkhead/agent"
	"bulkhead/agent/docker"
	"bulkhead/agent/egress"
	"bulkhead/agent/facts"
	"bulkhead/agent/supervisor"
	"bulkhead/agent/systemd"
	"bulkhead/cluster"
)

// imageFile in the state directory names the image last built here.
const imageFile = "image"

// hostOptions say how a machine is a host, as "up" and the agent run it.
type hostOptions struct {
	name   string
	state  string // kept: etcd's data, what is desired, binaries
	run    string // lost at reboot: instances, units, sockets
	image  string
	labels map[string]string
	proxyOptions

	pool       int     // blank cells kept booted
	overcommit float64 // cores promised to tenants for each there is

	egress bool     // tenants' code may connect to where their specs allow
	never  []string // networks that it never may
	resolv string   // file with the servers that names are asked of

	linger time.Duration // how long the proxy serves on when it says that it is leaving
}

// placeFlags are what up and down must agree on.
func (o *hostOptions) placeFlags(cmd *cobra.Command) {
	name, _ := os.Hostname()
	f := cmd.Flags()
	f.StringVar(&o.name, "host", hostName(name), "this host's name in the cluster")
	f.StringVar(&o.state, "state", defaultState, "directory for what is kept")
	f.StringVar(&o.run, "run", "/run/bulkhead", "directory for what is lost at reboot")
}

// hostFlags are the others that up and agent share.
func (o *hostOptions) hostFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringSliceVar(&o.listen, "listen", []string{"127.0.0.1:8080"}, "addresses that the proxy listens on")
	f.StringVar(&o.domain, "domain", "", "serve <tenant>.DOMAIN too")
	f.StringVar(&o.image, "image", "", "ID of the image that instances run (default: the one last built here)")
	f.IntVar(&o.pool, "pool", 2, "containers kept booted and blank for tenants that wake; more while many do")
	f.BoolVar(&o.egress, "egress", true, "let tenants' code connect to where their specs allow; false: to nothing")
	f.StringVar(&o.resolv, "resolv-conf", "/etc/resolv.conf", "file with the servers that are asked for names when tenants' code wants to connect to them")
	f.StringSliceVar(&o.never, "never", nil, "networks (CIDR) that no tenant's code on this host may reach, whatever its spec allows: other hosts' addresses, say, where they are public")
	f.Float64Var(&o.overcommit, "overcommit-cpu", 8, "cores promised to tenants for each that there is: few tenants are busy at a time")
	f.DurationVar(&o.linger, "linger", 10*time.Second, "how long the proxy goes on serving when the host is told to leave, with /-/readyz saying 503: the time that a load balancer takes to see it")
	f.StringToStringVar(&o.labels, "label", nil, "labels of this host, for placement")
}

// hostName makes a host's name of a machine's: its first label, lower-case.
func hostName(name string) string {
	name, _, _ = strings.Cut(strings.ToLower(name), ".")
	if cluster.CheckHost(name) != nil {
		return "localhost"
	}
	return name
}

// check finds early what would fail late.
func (o hostOptions) check(what string) error {
	if os.Geteuid() != 0 {
		return fail(exitFailure, "run it with sudo, or as root", "%s needs root: it starts containers and jails", what)
	}
	if err := cluster.CheckHost(o.name); err != nil {
		return fail(exitInvalid, "give a good one with --host", "%w", err)
	}
	if o.overcommit < 1 || o.overcommit > 1000 {
		return fail(exitUsage, "1 promises each core once, 8 is the default", "--overcommit-cpu %g: want 1 to 1000", o.overcommit)
	}
	if o.pool < 0 || o.pool > maxPool {
		return fail(exitUsage, "2 is the default, 0 keeps none", "--pool %d: want 0 to %d", o.pool, maxPool)
	}
	if _, err := o.network(nil); err != nil {
		return err
	}
	if o.linger <= 0 {
		return fail(exitUsage, "10s is the default", "--linger %v: want more than nothing", o.linger)
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

// network is how cells of this host reach the outside; nil: not at all.
func (o hostOptions) network(log *slog.Logger) (*egress.Config, error) {
	c := &egress.Config{Name: agent.NetworkName(cluster.Paths{Run: o.run}), Upstream: o.resolv, Log: log}
	for _, text := range o.never {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fail(exitUsage, "give one like 192.0.2.0/24", "--never %s: is no network", text)
		}
		c.Never = append(c.Never, p.Masked())
	}
	if !o.egress {
		return nil, nil
	}
	return c, nil
}

// defaultState is where a host keeps what outlives a boot.
const defaultState = "/var/lib/bulkhead"

// minFree is the least free disk that etcd and the containers' logs may start
// with: 512 MiB.
const minFree = 512 << 20

// maxPool bounds the blank cells of a host; each takes some 30 MiB.
const maxPool = 16

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
func thisHost(ctx context.Context, o hostOptions, engine *docker.Engine) (cluster.Host, error) {
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
	runtimes, err := engine.Runtimes(ctx)
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
		Name: o.name, Cores: capacity.CPU, Capacity: capacity, Labels: o.labels, Init: "supervisor", Boot: boot, Image: image, Runtimes: runtimes,
		Paths:    cluster.Paths{Run: o.run, State: o.state, Runner: runner},
		ProxyGID: agent.ProxyUID, Address: o.address,
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
func chooseImage(ctx context.Context, o hostOptions, engine *docker.Engine) (string, error) {
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
func openServices(ctx context.Context, o hostOptions, log *slog.Logger) (agent.Services, func(), error) {
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
