package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/agent"
	"bulkhead/agent/cells"
	"bulkhead/agent/docker"
	"bulkhead/cluster"
	"bulkhead/internal/etcd"
	"bulkhead/scheduler"
)

// upOptions say how one machine runs everything.
type upOptions struct {
	name   string
	state  string // kept: etcd's data, what is desired, binaries
	run    string // lost at reboot: instances, units, sockets
	etcd   string // URL that etcd serves clients on
	peer   string // URL for etcd's peers, of which there are none
	listen []string
	domain string
	image  string
	labels map[string]string

	pool       int     // blank cells kept booted
	overcommit float64 // cores promised to tenants for each there is
}

func newUp(a *app) *cobra.Command {
	var o upOptions
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run a whole cluster on this machine: etcd, scheduler, agent and proxy",
		Long: `up runs embedded etcd, a scheduler and the agent in this process, and has the
agent start the proxy as a unit of its own: by systemd where it is PID 1, else
by the agent's supervisor. It needs root and a running Docker Engine, and serves
until it is interrupted; tenants go on meanwhile and are taken over by the next
"bulkhead up". "bulkhead down" ends everything.`,
		Example: `  bulkhead up
  bulkhead up --listen 0.0.0.0:80 --domain example.org --label zone=a`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return a.up(cmd.Context(), o) },
	}
	o.placeFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&o.etcd, "etcd", "http://127.0.0.1:2379", "URL that etcd serves its clients on")
	f.StringVar(&o.peer, "etcd-peer", "http://127.0.0.1:2380", "URL that etcd listens on for its peers")
	f.StringSliceVar(&o.listen, "listen", []string{"127.0.0.1:8080"}, "addresses that the proxy listens on")
	f.StringVar(&o.domain, "domain", "", "serve <tenant>.DOMAIN too")
	f.StringVar(&o.image, "image", "", "ID of the image that instances run (default: the one last built here)")
	f.IntVar(&o.pool, "pool", 2, "containers kept booted and blank for tenants that wake; more while many do")
	f.Float64Var(&o.overcommit, "overcommit-cpu", 8, "cores promised to tenants for each that there is: few tenants are busy at a time")
	f.StringToStringVar(&o.labels, "label", nil, "labels of this host, for placement")
	return cmd
}

// placeFlags are what up and down must agree on.
func (o *upOptions) placeFlags(cmd *cobra.Command) {
	name, _ := os.Hostname()
	f := cmd.Flags()
	f.StringVar(&o.name, "host", hostName(name), "this host's name in the cluster")
	f.StringVar(&o.state, "state", defaultState, "directory for what is kept")
	f.StringVar(&o.run, "run", "/run/bulkhead", "directory for what is lost at reboot")
}

// up runs everything until ctx ends or a part of it fails.
func (a *app) up(ctx context.Context, o upOptions) error {
	log := slog.New(slog.NewTextHandler(a.stdio.err, nil))
	begun := time.Now()
	step := func(what string) {
		a.note("%6.1f s  %s", time.Since(begun).Seconds(), what)
	}
	if err := o.check(); err != nil {
		return err
	}
	unlock, err := lockUp(o.state)
	if err != nil {
		return err
	}
	defer unlock()
	if err := o.checkPorts(); err != nil {
		return err
	}
	engine, err := openEngine(ctx, o.name, log)
	if err != nil {
		return err
	}
	defer engine.Close()
	host, err := thisHost(ctx, o, engine)
	if err != nil {
		return err
	}
	step("this machine is host " + host.Name + ", image " + shortID(host.Image))
	socket, err := proxyEtcdDir(o.run)
	if err != nil {
		return err
	}
	server, err := etcd.Embed(filepath.Join(o.state, "etcd"), o.etcd, o.peer, etcd.Socket{Path: socket, Prefixes: []string{cluster.RoutesPrefix, cluster.InstancesPrefix}})
	if err == nil {
		err = admitProxy(socket)
	}
	if err != nil {
		return fail(exitFailure, "if another program uses the port, choose others with --etcd and --etcd-peer", "%w", err)
	}
	defer server.Close()
	step("etcd serves on " + o.etcd)
	cli, err := etcd.Open(etcd.Config{Endpoints: server.Endpoints()})
	if err != nil {
		return err
	}
	defer cli.Close()
	if err := forgetLeader(ctx, cli, host.Name); err != nil {
		return err
	}
	services, closeServices, err := openServices(ctx, o, log)
	if err != nil {
		return err
	}
	defer closeServices()
	if err := startProxy(ctx, o, host, services); err != nil {
		return err
	}
	step(fmt.Sprintf("the proxy listens on %v", o.listen))
	return runParts(ctx, parts{o, host, cli, services, engine, cells.Pool{Min: o.pool, Max: max(o.pool, maxPool)}, log, step, server.Err()})
}

// forgetLeader ends the leadership of a scheduler of ours that was killed. We
// hold the lock on the state directory, so it is dead; waiting for its lease
// to run out would take ten seconds.
func forgetLeader(ctx context.Context, cli *clientv3.Client, name string) error {
	keys, err := cli.Get(ctx, cluster.ElectionPrefix, clientv3.WithPrefix())
	if err != nil {
		return fmt.Errorf("cannot read who led last: %w", err)
	}
	for _, kv := range keys.Kvs {
		if string(kv.Value) != name {
			continue
		}
		if _, err := cli.Delete(ctx, string(kv.Key)); err != nil {
			return fmt.Errorf("cannot end the leadership of our predecessor: %w", err)
		}
	}
	return nil
}

// parts is what the long-running parts share.
type parts struct {
	upOptions
	host       cluster.Host
	etcd       *clientv3.Client
	services   agent.Services
	engine     *docker.Engine
	pool       cells.Pool
	log        *slog.Logger
	step       func(string)
	etcdFailed <-chan error
}

// runParts runs scheduler and agent; the first that fails ends both.
func runParts(ctx context.Context, p parts) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ag, err := agent.New(agent.Config{Host: p.host, Etcd: p.etcd, Services: p.services, Engine: p.engine, Pool: p.pool, Log: p.log.With("part", "agent")})
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

// checkPorts says which port is taken before anything has been started. The
// proxy's may be held by our own proxy, which goes on between two ups.
func (o upOptions) checkPorts() error {
	for flag, address := range map[string]string{"--etcd": hostPort(o.etcd), "--etcd-peer": hostPort(o.peer)} {
		ln, err := net.Listen("tcp", address)
		if err != nil {
			return fail(exitFailure, "stop what uses it (ss -ltnp shows), or choose another with "+flag, "cannot listen on %s: %w", address, errors.Unwrap(err))
		}
		ln.Close()
	}
	return nil
}
