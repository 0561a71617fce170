package main

import (
	"context"
	"slices"

	"bulkhead/agent"
	"bulkhead/agent/systemd"
	"bulkhead/cluster"
	"bulkhead/units"
)

// runProxy has the proxy's units run as they should be, and returns when a
// proxy serves. One that runs and is another is then to be replaced, which can
// take the minute in which it answers its last requests: replace does, and
// waits. Where systemd runs units, a second proxy beside it takes connections
// meanwhile.
func runProxy(ctx context.Context, host cluster.Host, p units.Proxy, services agent.Services) (replace func(context.Context) error, err error) {
	rendered, err := units.RenderProxy(host, p)
	if err != nil {
		return nil, err
	}
	before, err := services.States(ctx, "bulkhead-proxy")
	if err != nil {
		return nil, err
	}
	service := len(rendered) - 1
	stale := proxyIsStale(before, rendered[service])
	first := rendered
	if stale {
		first = rendered[:service] // the service's own is written once there is another beside it
	}
	if err := services.Write(ctx, first...); err != nil {
		return nil, err
	}
	if err := startSockets(ctx, services, rendered); err != nil {
		return nil, err
	}
	if !stale {
		return func(context.Context) error { return nil }, services.Start(ctx, units.ProxyService)
	}
	if _, ok := services.(*systemd.Systemd); ok {
		beside, err := units.RenderBeside(host, p)
		if err != nil {
			return nil, err
		}
		// Should we end here, that it runs says that there is still something to
		// replace.
		if err := services.Write(ctx, beside); err != nil {
			return nil, err
		}
		if err := services.Start(ctx, units.ProxyBeside); err != nil {
			return nil, err
		}
	}
	if err := services.Write(ctx, rendered[service]); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		if err := services.Restart(ctx, units.ProxyService); err != nil {
			return err
		}
		// It may have been between two lives, where a restart does nothing.
		if err := services.Start(ctx, units.ProxyService); err != nil {
			return err
		}
		return services.Remove(ctx, units.ProxyBeside)
	}, nil
}

// startSockets has those of the proxy's sockets listen that it is to have, and
// no others.
func startSockets(ctx context.Context, services agent.Services, rendered []units.Unit) error {
	for _, name := range units.ProxyUnits {
		wanted := slices.ContainsFunc(rendered, func(u units.Unit) bool { return u.Name == name })
		switch {
		case name == units.ProxyService, name == units.ProxyBeside:
		case !wanted:
			if err := services.Remove(ctx, name); err != nil {
				return err
			}
		default:
			if err := services.Start(ctx, name); err != nil {
				return fail(exitFailure, "stop what uses the port (ss -ltnp shows), or choose another with --listen, --listen-tls or --listen-peer", "cannot start the proxy: %w", err)
			}
		}
	}
	return nil
}

// proxyIsStale reports whether a proxy runs whose unit is not this one, or one
// beside it, which says that its replacement was not finished.
func proxyIsStale(states []units.State, service units.Unit) bool {
	return slices.ContainsFunc(states, func(s units.State) bool {
		return s.Up() && (s.Name == units.ProxyBeside || s.Name == service.Name && s.Text != service.Text)
	})
}
