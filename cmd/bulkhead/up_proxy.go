package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"bulkhead/agent"
	"bulkhead/cluster"
	"bulkhead/units"
)

// proxyEtcdSocket is where the proxy reaches etcd. On a cluster of one machine
// it needs no network of its own: its listening sockets are handed to it.
func proxyEtcdSocket(run string) string { return filepath.Join(run, "etcd", "client.sock") }

// proxyEtcdDir makes a place for that socket.
func proxyEtcdDir(run string) (socket string, err error) {
	socket = proxyEtcdSocket(run)
	if err := os.MkdirAll(filepath.Dir(socket), 0o711); err != nil {
		return "", fmt.Errorf("cannot make a place for the proxy's way to etcd: %w", err)
	}
	return socket, nil
}

// admitProxy lets the proxy connect to the socket, and root, and nobody else.
func admitProxy(socket string) error {
	if err := errors.Join(os.Chown(socket, 0, agent.ProxyUID), os.Chmod(socket, 0o660)); err != nil {
		return fmt.Errorf("cannot let the proxy reach etcd: %w", err)
	}
	return nil
}

// proxyOptions say how a host's proxy serves.
type proxyOptions struct {
	listen  []string
	domain  string
	address string // where other hosts' proxies reach it, host:port
}

// proxyWay is how a host's proxy reaches etcd.
type proxyWay struct {
	args    []string
	files   []string // that it may read
	network bool     // it opens connections itself
}

// proxyOverSocket is the way on a cluster of one machine.
func proxyOverSocket(run string) proxyWay {
	socket := proxyEtcdSocket(run)
	// The directory, not the socket, which is another one after a restart.
	return proxyWay{args: []string{"--endpoints", "unix://" + socket}, files: []string{filepath.Dir(socket)}}
}

// startProxy has the proxy's units run, as they should be: its socket is held
// by whoever runs units, so a proxy of another version takes over unnoticed.
func startProxy(ctx context.Context, o hostOptions, host cluster.Host, services agent.Services, way proxyWay) error {
	binary, err := installBinary("bulkhead", filepath.Join(o.state, "bin"))
	if err != nil {
		return err
	}
	args := append([]string{"proxy", "--host", host.Name, "--state", units.ProxyState(host.Paths)}, way.args...)
	if o.domain != "" {
		args = append(args, "--domain", o.domain)
	}
	rendered, err := units.RenderProxy(host, units.Proxy{
		Binary: binary, Args: args, Listen: o.listen, UID: agent.ProxyUID, GID: host.ProxyGID,
		Files: way.files, Network: way.network,
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
