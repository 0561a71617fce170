package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/agent/cells"
	"bulkhead/agent/egress"
	"bulkhead/agent/orders"
	"bulkhead/cluster"
	"bulkhead/internal/sealed"
)

// FirstUID is the first user that instances get; ProxyUID, just below, is the
// host proxy's user and group.
const (
	ProxyUID = 400000
	FirstUID = 400001
	lastUID  = 465535
)

// Config is what an agent needs to know.
type Config struct {
	Host     cluster.Host     // its presence; Since is set by the agent
	Etcd     *clientv3.Client // stays the caller's to close
	Services Services
	Engine   cells.Engine
	Pool     cells.Pool // blank cells to keep; the zero value keeps none
	Log      *slog.Logger

	// Secrets is where the keys are that open sealed secrets; without, tenants
	// whose secrets are sealed can't run.
	Secrets sealed.File

	// Modules has the sets of npm modules that functions name; nil: those that name
	// one are not served here.
	Modules Modules

	// Egress is how cells reach the outside; nil: they have no network.
	Egress *egress.Config
	// Actions runs what the host's configuration declares; nil: it declares
	// nothing. Releases installs Bulkhead itself; nil: it stays as it is.
	Actions  orders.Actions
	Releases orders.Releases
	// Fetch gives Docker the image that an order names, from wherever it says;
	// nil: the host only runs images that Docker has.
	Fetch func(ctx context.Context, o cluster.Order) error
	// Proxy are the units that may be the host's proxy: while none runs, the
	// host is not well. Empty: it has none.
	Proxy []string
	// Leaving is the file by which the host's proxy knows that it is leaving.
	Leaving string
	// Failures is the file in which the host's proxy counts requests that the
	// platform failed, see package tally. Empty: it counts none.
	Failures string
	// Linger is how long the proxy goes on serving when it says that it is
	// leaving, before the host does what makes it leave. Default 10 s.
	Linger time.Duration

	// TTL is how long the host and its instances stay in etcd when the agent
	// no longer says that they are there. Default 10 s.
	TTL time.Duration
	// Tick is how often to look at everything although nothing seems to have
	// happened. Default 10 s.
	Tick time.Duration
	// Patience is how long to wait for etcd at start before going on with
	// what is on disk. Default 3 s.
	Patience time.Duration
	// Workers is how many instances are worked on at a time. Default 8.
	Workers int
}

// withDefaults returns c with every default filled in, or what is missing.
func (c Config) withDefaults() (Config, error) {
	if err := cluster.CheckHost(c.Host.Name); err != nil {
		return c, fmt.Errorf("cannot make agent: %w", err)
	}
	if c.Services == nil || c.Engine == nil || c.Etcd == nil {
		return c, errors.New("cannot make agent: want etcd, services and an engine")
	}
	for _, p := range []string{c.Host.Paths.Run, c.Host.Paths.State} {
		if !filepath.IsAbs(p) {
			return c, fmt.Errorf("cannot make agent: path %q is not absolute", p)
		}
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	for _, d := range []struct {
		value     *time.Duration
		otherwise time.Duration
	}{{&c.TTL, 10 * time.Second}, {&c.Tick, 10 * time.Second}, {&c.Patience, 3 * time.Second}, {&c.Linger, 10 * time.Second}} {
		if *d.value == 0 {
			*d.value = d.otherwise
		}
	}
	if c.Leaving == "" {
		c.Leaving = filepath.Join(c.Host.Paths.State, "leaving")
	}
	if c.Actions == nil {
		c.Actions = orders.None{}
	}
	if c.Workers == 0 {
		c.Workers = 8
	}
	return c, nil
}
