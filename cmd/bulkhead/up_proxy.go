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

// startProxy has the proxy's units run, as they should be: its socket is held
// by whoever runs units, so a proxy of another version takes over unnoticed.
func startProxy(ctx context.Context, o upOptions, host cluster.Host, services agent.Services) error {
	binary, err := installBinary("bulkhead", filepath.Join(o.state, "bin"))
	if err != nil {
		return err
	}
	args := []string{"proxy", "--host", host.Name, "--endpoints", o.etcd, "--state", units.ProxyState(host.Paths)}
	if o.domain != "" {
		args = append(args, "--domain", o.domain)
	}
	rendered, err := units.RenderProxy(host, units.Proxy{
		Binary: binary, Args: args, Listen: o.listen, UID: agent.ProxyUID, GID: host.ProxyGID, Network: true,
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
