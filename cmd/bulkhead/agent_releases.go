package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"

	"bulkhead/agent"
	"bulkhead/agent/orders"
	"bulkhead/agent/releases"
	"bulkhead/agent/systemd"
	"bulkhead/cluster"
)

// releases says which release this host runs, and returns what puts another in
// its place: nil where that can't be, because its binaries are no release, or
// systemd does not run them.
func (o agentOptions) releases(host *cluster.Host, services agent.Services, log *slog.Logger) orders.Releases {
	self, err := os.Executable()
	if err != nil {
		return nil
	}
	dir := filepath.Dir(self)
	running, err := releases.Of(dir)
	if err != nil {
		log.Info("these binaries are no release", "error", err)
		return nil
	}
	host.Versions[cluster.Release] = running
	s, ok := services.(*systemd.Systemd)
	if !ok || filepath.Base(filepath.Dir(dir)) != "releases" {
		return nil
	}
	return &releases.Releases{
		Dir: filepath.Dir(filepath.Dir(dir)), Artifacts: directory(o.artifacts), Running: running, Proven: make(chan struct{}), Log: log,
		Restarted: func(ctx context.Context) error { return restartRelease(ctx, s) },
	}
}

// restartRelease has the units restarted that are the release in force.
func restartRelease(ctx context.Context, s *systemd.Systemd) error {
	return s.RestartSoon(ctx, "bulkhead-scheduler.service", "bulkhead-agent.service")
}

// proveRelease says that the release that runs does what it is for.
func (p parts) proveRelease(ctx context.Context) error {
	if r, ok := p.releases.(*releases.Releases); ok {
		return r.Prove(ctx)
	}
	return nil
}
