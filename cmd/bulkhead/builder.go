package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/docker/docker/client"
	"github.com/spf13/cobra"

	"bulkhead/cluster"
	"bulkhead/internal/audit"
	"bulkhead/internal/etcd"
	"bulkhead/modules"
)

func newBuilder(a *app) *cobra.Command {
	var name, state, toolchain string
	host, _ := os.Hostname()
	cmd := &cobra.Command{
		Use:   "builder",
		Short: "Build the npm modules that functions want (run by its unit)",
		Long: `builder resolves, fetches and builds the npm packages that functions want and the
operator allows, with npm as it is configured on this host (npm config get
registry), and writes what came of it into the functions. Of several builders
one builds, and another takes over when it is gone. Packages' install scripts,
where they are allowed, run in a container of this host's Docker.`,
		Example: `  bulkhead builder --name h1 --endpoints https://10.0.0.1:2379 --cacert ca.crt --cert builder.crt --key builder.key`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.runBuilder(cmd.Context(), name, state, toolchain)
		},
	}
	f := cmd.Flags()
	f.StringVar(&name, "name", hostName(host), "this host's name")
	f.StringVar(&state, "state", defaultState, "directory for what is kept: sets' archives, npm and its cache")
	f.StringVar(&toolchain, "toolchain", "", "image of this host's Docker that install scripts run in, with a C compiler, make and python3 (default: one is made with mmdebstrap)")
	return cmd
}

func (a *app) runBuilder(ctx context.Context, name, state, toolchain string) error {
	if err := cluster.CheckHost(name); err != nil {
		return fail(exitInvalid, "give a good one with --name", "%w", err)
	}
	maker, err := newMaker(state, toolchain)
	if err != nil {
		return err
	}
	cli, err := etcd.Open(a.etcdConfig())
	if err != nil {
		return usageError(err)
	}
	defer cli.Close()
	cli.KV = audit.Claiming(cli.KV, a.user(), audit.Claim{Says: operator(), With: a.command})
	notifyStatus("stands by")
	notifyReady() // one that waits for its turn does what it is for
	return modules.Run(ctx, cli, modules.Options{
		Name: name, Maker: maker, Log: slog.New(slog.NewTextHandler(a.stdio.err, nil)),
		Builds: func(turn bool) { notifyStatus(map[bool]string{true: "builds", false: "stands by"}[turn]) },
	})
}

// newMaker makes sets below a state directory, which npm's user has to get
// through.
func newMaker(state, toolchain string) (*modules.Maker, error) {
	if err := os.MkdirAll(state, 0o711); err != nil {
		return nil, fail(exitFailure, "make room, or choose another with --state", "cannot make %s: %w", state, err)
	}
	docker, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		return nil, fmt.Errorf("cannot open Docker: %w", err)
	}
	return &modules.Maker{State: state, Docker: docker, Toolchain: toolchain}, nil
}
