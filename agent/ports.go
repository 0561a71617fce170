package agent

import (
	"context"
	"errors"

	"bulkhead/units"
)

// Services runs unit files: systemd (agent/systemd) or the agent's own
// supervisor (agent/supervisor).
type Services interface {
	// Write installs unit files, and has changed ones reloaded. It does not
	// start or restart anything.
	Write(ctx context.Context, us ...units.Unit) error
	// Remove stops units in the order given, and then removes their files.
	// Units that aren't there are no error.
	Remove(ctx context.Context, names ...string) error
	// Start starts a unit and waits until that is done. A unit that runs
	// already is no error.
	Start(ctx context.Context, name string) error
	// Restart stops and starts a service, if it runs; its socket stays.
	Restart(ctx context.Context, name string) error
	// States returns all units whose names start with prefix.
	States(ctx context.Context, prefix string) ([]units.State, error)
	// Events wakes whoever reads it when a unit's state may have changed. It
	// is a hint: events are merged, none carries what happened.
	Events() <-chan struct{}
}

// ErrNoImage is returned by [Containers].Create when the image isn't on the
// host.
var ErrNoImage = errors.New("image is not on this host")

// Containers runs cells: Docker (agent/docker).
type Containers interface {
	// List returns all containers that this host's agent made, whatever their
	// state.
	List(ctx context.Context) ([]Container, error)
	// Create makes and starts a container and returns its ID. It fails with
	// ErrNoImage when the image is missing, and leaves nothing behind when it
	// fails.
	Create(ctx context.Context, s ContainerSpec) (id string, err error)
	// Resize changes a running container's limits.
	Resize(ctx context.Context, id string, s ContainerSpec) error
	// Remove kills and removes a container. One that isn't there is no error.
	Remove(ctx context.Context, id string) error
	// HasImage says whether an image is on this host.
	HasImage(ctx context.Context, id string) (bool, error)
	// Events wakes whoever reads it when a container of this host may have
	// changed state, like [Services].Events.
	Events() <-chan struct{}
}

// Limits is what a container may use.
type Limits struct {
	Memory int64 // bytes; no swap
	CPU    int64 // thousand-millionths of a core
	Pids   int64
}

// ContainerSpec says how an instance's container is made.
type ContainerSpec struct {
	Name     string // Docker's
	Tenant   string
	Instance string
	Image    string // ID, sha256:…
	UID      int    // user and group
	Tmp      int64  // bytes of /tmp
	Cell     string // the host's directory at /run/cell
	Slice    string // the slice unit that it runs below
	Limits   Limits
}

// Container is a container as observed.
type Container struct {
	ID       string
	Instance string
	Config   string // ContainerSpec.Config of what it was created from
	Running  bool
	Status   string // in words: why it isn't running
	Limits   Limits
}
