package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"bulkhead/internal/etcd"
)

func newEtcd(a *app) *cobra.Command {
	var config string
	cmd := &cobra.Command{
		Use:   "etcd --config FILE",
		Short: "Run one member of the cluster's etcd (run by its unit)",
		Long: `etcd runs one member of an etcd cluster in this process, by a configuration file
in etcd's own format. It refuses a configuration that lets anybody in without a
certificate. It is ready when the member serves, for which most members of the
cluster have to be there.`,
		Example: `  bulkhead etcd --config /etc/bulkhead/etcd.yaml`,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, args []string) error { return a.runEtcd(cmd.Context(), config) },
	}
	cmd.Flags().StringVar(&config, "config", "/etc/bulkhead/etcd.yaml", "file: the member's configuration, as etcd --config-file takes it")
	return cmd
}

func (a *app) runEtcd(ctx context.Context, config string) error {
	notifyStatus("waiting for most members of the cluster")
	err := etcd.Member(ctx, config, func() {
		notifyStatus("serves")
		notifyReady()
	})
	if errors.Is(err, etcd.ErrLocked) {
		return fail(exitFailure, "end the other one first", "%w", err)
	}
	return err
}
