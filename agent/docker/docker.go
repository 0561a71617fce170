// Package docker runs cells as containers of a Docker Engine, hardened as far
// as an engine goes: a user that is not root, no capabilities, no new
// privileges, our own system call filter, a read-only root, no network,
// limits on memory, CPU, processes, /tmp and logs.
//
// Everything it makes carries the host's name in a label, and that label is
// how it finds its own again.
package docker

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/client"

	"bulkhead/agent/cells"
	"bulkhead/units"
)

// Labels on every container.
const (
	LabelHost = "io.bulkhead.host"
	LabelCell = "io.bulkhead.cell"
)

// Engine is a Docker Engine of one host.
type Engine struct {
	client *client.Client // by api, once negotiated
	host   string
	log    *slog.Logger
	events chan struct{}
	cancel context.CancelFunc
	done   sync.WaitGroup

	memory memory

	mu         sync.Mutex
	negotiated bool
	driver     string // cgroup driver, once asked and found fit
}

var _ cells.Engine = (*Engine)(nil)

// Open returns the engine that the environment names (DOCKER_HOST, by default
// the local socket), for the containers labelled with host. It connects when
// first used, and negotiates the API's version, down to 1.41.
func Open(host string, log *slog.Logger) (*Engine, error) {
	api, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		return nil, fmt.Errorf("cannot open Docker: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	e := &Engine{client: api, host: host, log: log, events: make(chan struct{}, 1), cancel: cancel}
	e.done.Go(func() { e.follow(ctx) })
	return e, nil
}

// Close stops following the engine's events. Containers go on.
func (e *Engine) Close() error {
	e.cancel()
	e.done.Wait()
	return e.client.Close()
}

// api returns the client once it knows which version of the API the engine
// speaks. The client would find out by itself, but then its calls race.
func (e *Engine) api(ctx context.Context) (*client.Client, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.negotiated {
		return e.client, nil
	}
	ping, err := e.client.Ping(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot reach Docker: %w", err)
	}
	e.client.NegotiateAPIVersionPing(ping)
	e.negotiated = true
	return e.client, nil
}

// Events implements [cells.Engine].
func (e *Engine) Events() <-chan struct{} { return e.events }

// Create implements [cells.Engine].
func (e *Engine) Create(ctx context.Context, s cells.ContainerSpec) (cells.Container, error) {
	var none cells.Container
	api, err := e.api(ctx)
	if err != nil {
		return none, err
	}
	driver, err := e.cgroupDriver(ctx)
	if err != nil {
		return none, err
	}
	defer e.memory.forget()
	cfg, host := e.specs(s, cgroupParent(driver, s.Slice))
	made, err := api.ContainerCreate(ctx, cfg, host, nil, nil, s.Name())
	if cerrdefs.IsNotFound(err) {
		return none, fmt.Errorf("cannot create container %s: image %.19s: %w", s.Name(), s.Image, cells.ErrNoImage)
	}
	if err != nil {
		return none, fmt.Errorf("cannot create container %s: %w", s.Name(), err)
	}
	err = api.ContainerStart(ctx, made.ID, container.StartOptions{})
	var in container.InspectResponse
	if err == nil {
		in, err = api.ContainerInspect(ctx, made.ID)
	}
	if err != nil {
		err = fmt.Errorf("cannot start container %s: %w", s.Name(), err)
		if rm := e.Remove(context.WithoutCancel(ctx), made.ID); rm != nil {
			e.log.Warn("container left behind", "container", made.ID, "error", rm)
		}
		return none, err
	}
	return observed(in), nil
}

// Resize implements [cells.Engine].
func (e *Engine) Resize(ctx context.Context, id string, l cells.Limits) error {
	api, err := e.api(ctx)
	if err != nil {
		return err
	}
	defer e.memory.forget()
	if _, err := api.ContainerUpdate(ctx, id, container.UpdateConfig{Resources: resources(l)}); err != nil {
		return fmt.Errorf("cannot resize container %.12s: %w", id, err)
	}
	return nil
}

// Remove implements [cells.Engine].
func (e *Engine) Remove(ctx context.Context, id string) error {
	api, err := e.api(ctx)
	if err != nil {
		return err
	}
	defer e.memory.forget()
	err = api.ContainerRemove(ctx, id, container.RemoveOptions{Force: true, RemoveVolumes: true})
	if err != nil && !cerrdefs.IsNotFound(err) && !cerrdefs.IsConflict(err) {
		return fmt.Errorf("cannot remove container %.12s: %w", id, err)
	}
	return nil
}

// Version returns the engine's version.
func (e *Engine) Version(ctx context.Context) (string, error) {
	api, err := e.api(ctx)
	if err != nil {
		return "", err
	}
	v, err := api.ServerVersion(ctx)
	if err != nil {
		return "", fmt.Errorf("cannot ask Docker for its version: %w", err)
	}
	return v.Version, nil
}

// Runtimes returns the names of the OCI runtimes that the engine has, in order.
func (e *Engine) Runtimes(ctx context.Context) ([]string, error) {
	api, err := e.api(ctx)
	if err != nil {
		return nil, err
	}
	info, err := api.Info(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot ask Docker about itself: %w", err)
	}
	return slices.Sorted(maps.Keys(info.Runtimes)), nil
}

// cgroupDriver returns how the engine makes cgroups: cgroupfs or systemd. The
// error says what an engine lacks that is not fit for strangers' code.
func (e *Engine) cgroupDriver(ctx context.Context) (string, error) {
	api, err := e.api(ctx)
	if err != nil {
		return "", err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.driver == "" {
		info, err := api.Info(ctx)
		if err != nil {
			return "", fmt.Errorf("cannot ask Docker about itself: %w", err)
		}
		if err := fit(info); err != nil {
			return "", err
		}
		e.driver = info.CgroupDriver
	}
	return e.driver, nil
}

// fit refuses an engine that cannot filter system calls: what it is asked for
// in a container's specification it might leave out without a word.
func fit(info system.Info) error {
	for _, option := range info.SecurityOptions {
		name, _, _ := strings.Cut(option, ",")
		if name == "name=seccomp" || name == "seccomp" {
			return nil
		}
	}
	return fmt.Errorf("cannot run strangers' code: the Docker Engine of this host does not filter system calls: its security options are %q, without seccomp; it needs a kernel with CONFIG_SECCOMP_FILTER and an engine that was built with seccomp (docker info)", info.SecurityOptions)
}

// cgroupParent is what a driver calls a slice. With cgroupfs it is the path
// that systemd, or the agent's supervisor, gives the slice.
func cgroupParent(driver, slice string) string {
	if driver == "systemd" || slice == "" {
		return slice
	}
	return "/" + path.Join(units.Slices(slice)...)
}
