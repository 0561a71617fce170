package main

import (
	"context"
	"errors"
	"fmt"
	"io"

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
	configFlag(cmd, &config)
	cmd.AddCommand(newEtcdRestore(a))
	return cmd
}

func configFlag(cmd *cobra.Command, config *string) {
	cmd.Flags().StringVar(config, "config", "/etc/bulkhead/etcd.yaml", "file: the member's configuration, as etcd --config-file takes it")
}

func newEtcdRestore(a *app) *cobra.Command {
	var config string
	cmd := &cobra.Command{
		Use:   "restore SNAPSHOT",
		Short: "Give this member the state of a snapshot",
		Long: `restore gives the member of this host the state of a snapshot that "etcdctl
snapshot save" has written. The member must not run. All members are restored
from the same snapshot, and then started: they are a new cluster. What the
member had is kept beside it, in its data directory.`,
		Example: `  systemctl stop bulkhead-etcd && bulkhead etcd restore backup.db && systemctl start bulkhead-etcd`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			before, err := etcd.Restore(config, args[0])
			if errors.Is(err, etcd.ErrLocked) {
				return fail(exitFailure, "stop it first: systemctl stop bulkhead-etcd", "%w", err)
			}
			if err != nil {
				return err
			}
			return a.say(map[string]string{"kept": before}, func(w io.Writer) {
				fmt.Fprintln(w, "restored; what was there before is in", dash(before))
			})
		},
	}
	configFlag(cmd, &config)
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
