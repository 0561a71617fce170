package cells

import (
	"context"
	"errors"

	"bulkhead/cluster"
)

// ErrNoImage is returned by [Engine].Create when the image isn't on the host.
var ErrNoImage = errors.New("image is not on this host")

// Engine runs containers: Docker (agent/docker).
type Engine interface {
	// List returns all containers that this host's agent made, whatever their
	// state.
	List(ctx context.Context) ([]Container, error)
	// Create makes and starts a container. It fails with ErrNoImage when the
	// image is missing, and leaves nothing behind when it fails.
	Create(ctx context.Context, s ContainerSpec) (Container, error)
	// Resize changes a running container's limits.
	Resize(ctx context.Context, id string, l Limits) error
	// Remove kills and removes a container. One that isn't there is no error.
	Remove(ctx context.Context, id string) error
	// HasImage says whether an image is on this host.
	HasImage(ctx context.Context, id string) (bool, error)
	// Events wakes whoever reads it when a container of this host may have
	// changed state. It is a hint: events are merged, none carries what
	// happened.
	Events() <-chan struct{}
}

// Network lets cells out: agent/egress.
type Network interface {
	// Attach gives a blank cell, whose container's first process is pid, a
	// link by which nothing passes.
	Attach(cell string, uid, pid int) error
	// Join lets a cell out as its instance, to what e allows.
	Join(cell, instance string, e cluster.Egress) error
	// Detach takes a cell's link away. One that has none is no error.
	Detach(cell string) error
}

// Kind is what containers of a host differ in that no one can change later.
type Kind struct {
	Image   string `json:"image"`             // ID, sha256:…
	Runtime string `json:"runtime,omitempty"` // OCI runtime; empty: the engine's own choice
}

// Limits is what a container may use.
type Limits struct {
	Memory int64 `json:"memory"` // bytes; no swap
	CPU    int64 `json:"cpu"`    // thousand-millionths of a core
	Pids   int64 `json:"pids"`
}

// ContainerSpec says how a container is made.
type ContainerSpec struct {
	Cell string // its cell's id
	Kind
	UID    int    // user and group
	Tmp    int64  // bytes of /tmp
	Dir    string // the host's directory at /run/cell
	Resolv string // the host's file at /etc/resolv.conf; empty: the image's own
	// Modules is the host's directory at /modules, which nobody there may write;
	// empty: there is none.
	Modules string
	Slice   string // the slice unit that it runs below
	Limits  Limits
}

// Name is what the engine calls the container.
func (s ContainerSpec) Name() string { return "bulkhead-cell-" + s.Cell }

// Container is a container as the engine shows it.
type Container struct {
	ID      string
	Cell    string // id of its cell; empty: it is none of ours
	Image   string
	Running bool
	PID     int    // of its PID 1, while it runs
	Status  string // in words: why it isn't running
	Limits  Limits
}
