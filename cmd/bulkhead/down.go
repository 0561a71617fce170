package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"bulkhead/agent"
	"bulkhead/agent/egress"
	"bulkhead/cluster"
	"bulkhead/internal/etcd"
	"bulkhead/units"
)

// leaveTime bounds how long a running "up" may take to end.
const leaveTime = 30 * time.Second

func newDown(a *app) *cobra.Command {
	var o upOptions
	var purge bool
	cmd := &cobra.Command{
		Use:   "down",
		Short: "End everything that up started on this machine",
		Long: `down ends the process that runs "bulkhead up", removes every instance of this
host (containers, units, sockets, mounts), and the proxy. What tenants and
functions there are stays in the state directory for the next "up"; --purge
removes that too.`,
		Example: `  bulkhead down
  bulkhead down --purge`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return a.down(cmd.Context(), o, purge) },
	}
	o.placeFlags(cmd)
	cmd.Flags().BoolVar(&purge, "purge", false, "remove tenants, functions and all other state as well")
	return cmd
}

func (a *app) down(ctx context.Context, o upOptions, purge bool) error {
	if os.Geteuid() != 0 {
		return fail(exitFailure, "run it with sudo, or as root", "bulkhead down needs root")
	}
	log := slog.New(slog.NewTextHandler(a.stdio.err, &slog.HandlerOptions{Level: slog.LevelError}))
	if err := a.leave(ctx, o.state); err != nil {
		return err
	}
	if _, err := os.Stat(o.run); err == nil {
		if err := a.clean(ctx, o, log); err != nil {
			return err
		}
		a.note("removed the instances of host %s and its proxy", o.name)
	} else {
		a.note("nothing runs here")
	}
	if !purge {
		a.note("kept %s: tenants and functions, for the next \"bulkhead up\"; --purge removes it", o.state)
		return nil
	}
	if err := os.RemoveAll(o.state); err != nil {
		return fmt.Errorf("cannot remove the state: %w", err)
	}
	a.note("removed %s", o.state)
	return nil
}

// leave ends the process that holds the state directory, and waits for it.
func (a *app) leave(ctx context.Context, state string) error {
	pid, _ := readUp(state)
	if pid == 0 {
		return nil
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("cannot end process %d: %w", pid, err)
	}
	ctx, cancel := context.WithTimeout(ctx, leaveTime)
	defer cancel()
	for tick := time.Tick(50 * time.Millisecond); ; {
		if now, _ := readUp(state); now == 0 {
			a.note("ended process %d", pid)
			return nil
		}
		select {
		case <-tick:
		case <-ctx.Done():
			return fail(exitLate, fmt.Sprintf("look at it, and kill -9 %d if it hangs", pid), "process %d has not ended in %v", pid, leaveTime)
		}
	}
}

// clean removes what the agent and we have made on this host.
func (a *app) clean(ctx context.Context, o upOptions, log *slog.Logger) error {
	engine, err := openEngine(ctx, o.name, log)
	if err != nil {
		return err
	}
	defer engine.Close()
	services, closeServices, err := openServices(ctx, o.hostOptions, log)
	if err != nil {
		return err
	}
	cli, err := etcd.Open(etcd.Config{Endpoints: a.endpoints}) // not connected: cleaning up asks etcd nothing
	if err != nil {
		closeServices()
		return err
	}
	defer cli.Close()
	network := &egress.Config{Name: agent.NetworkName(cluster.Paths{Run: o.run}), Log: log}
	host := cluster.Host{Name: o.name, Paths: cluster.Paths{Run: o.run, State: o.state}}
	err = errors.Join(
		services.Remove(ctx, units.ProxyUnits...),
		agent.Cleanup(ctx, agent.Config{Host: host, Etcd: cli, Services: services, Engine: engine, Log: log, Egress: network}),
		services.Remove(ctx, "bulkhead.slice"),
	)
	closeServices()
	if err != nil {
		return fmt.Errorf("cannot remove everything: %w", err)
	}
	return errors.Join(os.RemoveAll(o.run), os.RemoveAll(filepath.Join(o.state, "proxy")), os.RemoveAll(filepath.Join(o.state, "bin")))
}
