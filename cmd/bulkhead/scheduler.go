package main

import (
	"context"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
	"bulkhead/scheduler"
)

func newScheduler(a *app) *cobra.Command {
	var name string
	host, _ := os.Hostname()
	cmd := &cobra.Command{
		Use:   "scheduler",
		Short: "Run a scheduler (run by its unit)",
		Long: `scheduler campaigns, and while it is elected places tenants on hosts. Of several
one leads, and another takes over when it is gone. While etcd is away it tries on.`,
		Example: `  bulkhead scheduler --name h1 --endpoints https://10.0.0.1:2379 --cacert ca.crt --cert scheduler.crt --key scheduler.key`,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, args []string) error { return a.runScheduler(cmd.Context(), name) },
	}
	cmd.Flags().StringVar(&name, "name", hostName(host), "shown as the leader's name")
	return cmd
}

func (a *app) runScheduler(ctx context.Context, name string) error {
	if err := cluster.CheckHost(name); err != nil {
		return fail(exitInvalid, "give a good one with --name", "%w", err)
	}
	cli, err := etcd.Open(a.etcdConfig())
	if err != nil {
		return usageError(err)
	}
	defer cli.Close()
	notifyStatus("stands by")
	notifyReady() // one that waits to be elected does what it is for
	return scheduler.Run(ctx, cli, scheduler.Options{
		Name: name, Log: slog.New(slog.NewTextHandler(a.stdio.err, nil)),
		Led: func(leading bool) {
			notifyStatus(map[bool]string{true: "leads", false: "stands by"}[leading])
		},
	})
}
