package agent

import (
	"context"

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

// Modules has the sets of npm modules that functions name: agent/sets.
type Modules interface {
	// Trees is the directory that cells see as [cluster.ModulesDir].
	Trees() string
	// Archives says whether a builder leaves its archives here.
	Archives() bool
	// Where is where cells see a set; empty: it is not here yet. Then it is
	// fetched, from this host's archives or from other hosts, given with their
	// proxies' addresses; soon says that this has not failed so far.
	Where(set string, from map[string]string) (at string, soon bool)
	// Named says which sets there has to be something of: others go in time.
	Named(sets map[string]bool)
	// Run fetches until ctx ends, and notifies when Where would say another thing.
	Run(ctx context.Context, notify func())
}
