package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
	"bulkhead/internal/sealed"
)

// upOptions say how one machine runs everything.
type upOptions struct {
	hostOptions
	etcd string // URL that etcd serves clients on
	peer string // URL for etcd's peers, of which there are none
}

func newUp(a *app) *cobra.Command {
	var o upOptions
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run a whole cluster on this machine: etcd, scheduler, builder, agent and proxy",
		Long: `up runs embedded etcd, a scheduler, a builder of npm modules and the agent in
this process, and has the agent start the proxy as a unit of its own: by systemd
where it is PID 1, else by the agent's supervisor. It needs root and a running Docker Engine, and serves
until it is interrupted; tenants go on meanwhile and are taken over by the next
"bulkhead up". "bulkhead down" ends everything.`,
		Example: `  bulkhead up
  bulkhead up --listen 0.0.0.0:80 --domain example.org --label zone=a`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return a.up(cmd.Context(), o) },
	}
	o.placeFlags(cmd)
	o.hostFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&o.etcd, "etcd", "http://127.0.0.1:2379", "URL that etcd serves its clients on")
	f.StringVar(&o.peer, "etcd-peer", "http://127.0.0.1:2380", "URL that etcd listens on for its peers")
	return cmd
}

// up runs everything until ctx ends or a part of it fails.
func (a *app) up(ctx context.Context, o upOptions) error {
	log := slog.New(slog.NewTextHandler(a.stdio.err, nil))
	begun := time.Now()
	step := func(what string) {
		a.note("%6.1f s  %s", time.Since(begun).Seconds(), what)
	}
	if err := o.check("bulkhead up"); err != nil {
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
	host, err := thisHost(ctx, o.hostOptions, engine)
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
	keys := sealed.File{Path: ringFile(o.state), KMS: a.kms}
	ring, err := keepRing(ctx, store{cli}, keys)
	if err != nil {
		return err
	}
	step("secrets are sealed for key " + ring.First() + " of " + keys.Path)
	services, closeServices, err := openServices(ctx, o.hostOptions, log)
	if err != nil {
		return err
	}
	defer closeServices()
	replaceProxy, err := startProxy(ctx, o.hostOptions, host, services, proxyOverSocket(o.run))
	if err == nil {
		err = replaceProxy(ctx)
	}
	if err != nil {
		return err
	}
	step(fmt.Sprintf("the proxy listens on %v", o.listen))
	modules, err := openModules(o.state, nil, log)
	if err != nil {
		return err
	}
	return runParts(ctx, parts{hostOptions: o.hostOptions, host: host, etcd: cli, services: services, engine: engine, log: log, step: step, opening: keys, etcdFailed: server.Err(), modules: modules})
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
