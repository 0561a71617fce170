package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/agent"
	"bulkhead/agent/cells"
	"bulkhead/agent/docker"
	"bulkhead/agent/orders"
	"bulkhead/agent/sets"
	"bulkhead/cluster"
	"bulkhead/internal/audit"
	"bulkhead/internal/etcd"
	"bulkhead/internal/sealed"
	"bulkhead/modules"
	"bulkhead/scheduler"
	"bulkhead/units"
)

// parts is what the long-running parts share.
type parts struct {
	hostOptions
	host       cluster.Host
	etcd       *clientv3.Client
	services   agent.Services
	engine     *docker.Engine
	log        *slog.Logger
	step       func(string)
	etcdFailed <-chan error
	opening    sealed.File                                // the keys that open secrets
	fetch      func(context.Context, cluster.Order) error // an image that Docker lacks
	releases   orders.Releases
	modules    *sets.Keeper
}

// newAgent makes the host's agent.
func (p parts) newAgent() (*agent.Agent, error) {
	c := agent.Config{
		Host: p.host, Etcd: p.etcd, Services: p.services, Engine: p.engine,
		Pool: cells.Pool{Min: p.pool, Max: max(p.pool, maxPool)}, Log: p.log.With("part", "agent"),
		Proxy: []string{units.ProxyService, units.ProxyBeside}, Leaving: filepath.Join(units.ProxyState(p.host.Paths), leavingFile), Linger: p.linger,
		Failures: filepath.Join(units.ProxyState(p.host.Paths), failuresFile), Fetch: p.fetch, Releases: p.releases,
		Secrets: p.opening, Modules: p.modules,
	}
	network, err := p.network(p.log.With("part", "network"))
	if err != nil {
		return nil, err
	}
	c.Egress = network
	if actions, ok := p.services.(orders.Actions); ok {
		c.Actions = actions
	}
	return agent.New(c)
}

// runParts runs scheduler and agent; the first that fails ends both.
func runParts(ctx context.Context, p parts) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ag, err := p.newAgent()
	if err != nil {
		return err
	}
	led := make(chan struct{})
	var once sync.Once
	var work sync.WaitGroup
	defer work.Wait()
	part := func(name string, run func() error) {
		work.Go(func() {
			err := run()
			if ctx.Err() == nil {
				cancel(fmt.Errorf("%s ended: %w", name, errors.Join(err, errors.New("it should not"))))
			}
		})
	}
	part("scheduler", func() error {
		return scheduler.Run(ctx, p.etcd, scheduler.Options{
			Name: p.host.Name, Log: p.log.With("part", "scheduler"),
			Led: func(leading bool) {
				if leading {
					once.Do(func() { close(led) })
				}
			},
		})
	})
	part("agent", func() error { return ag.Run(ctx) })
	part("builder", func() error { return p.build(ctx) })
	for _, ready := range []<-chan struct{}{led, ag.Ready()} {
		select {
		case <-ready:
		case <-ctx.Done():
		}
	}
	if ctx.Err() == nil {
		p.step("bulkhead is up; interrupt to leave (tenants go on), or end everything with: bulkhead down")
		if err := markReady(p.state); err != nil {
			return err
		}
	}
	select {
	case err := <-p.etcdFailed:
		cancel(fmt.Errorf("etcd failed: %w", err))
	case <-ctx.Done():
	}
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	p.log.Info("leaving; instances and proxy go on")
	return nil
}

// build runs the builder, which writes as its own user.
func (p parts) build(ctx context.Context) error {
	maker, err := newMaker(p.state, "")
	if err != nil {
		return err
	}
	cli, err := etcd.Open(etcd.Config{Endpoints: p.etcd.Endpoints()})
	if err != nil {
		return err
	}
	defer cli.Close()
	cli.KV = audit.Claiming(cli.KV, cluster.BuilderUser, audit.Claim{Says: "builder@" + p.host.Name})
	return modules.Run(ctx, cli, modules.Options{Name: p.host.Name, Maker: maker, Log: p.log.With("part", "builder")})
}
