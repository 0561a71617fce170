package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"bulkhead/internal/sealed"
)

func newSecretsAdd(a *app) *cobra.Command {
	return a.onVault(&cobra.Command{
		Use:   "add",
		Short: "Add a key to the file; nothing is sealed for it yet",
		Long: `Add a key to the file --opening-keys, or make the file. Hosts need the file before
the key can be used: "bulkhead pki pack" has it. They take it up within seconds,
without a restart.`,
		Example: `  bulkhead secrets add --opening-keys pki/` + ringName,
		Args:    cobra.NoArgs,
	}, func(_ context.Context, v *vault, _ []string) error {
		id, err := v.add()
		if err != nil {
			return err
		}
		return a.say(map[string]any{"key": id, "file": v.file.Path}, func(w io.Writer) { fmt.Fprintf(w, "key %s added to %s\n", id, v.file.Path) })
	})
}

func (v *vault) add() (id string, err error) {
	if v.ring == nil && v.lock != nil {
		return "", v.needRing() // another file would open nothing
	}
	if v.ring == nil {
		r, err := sealed.NewRing()
		if err != nil {
			return "", err
		}
		return r.First(), v.keep(r)
	}
	r, id, err := v.ring.Add()
	if err != nil {
		return "", err
	}
	return id, v.keep(r)
}

func newSecretsDrop(a *app) *cobra.Command {
	return a.onVault(&cobra.Command{
		Use:   "drop KEY",
		Short: "Remove a key from the file that nothing is sealed for any more",
		Long: `Remove a key from the file, if nothing in etcd is sealed for it. Hosts keep it
until they are given the file anew. A backup of etcd from before needs the key
that its secrets are sealed for: keep the old file as long as such backups.`,
		Example: `  bulkhead secrets drop 1f0c2a94 --opening-keys pki/` + ringName,
		Args:    cobra.ExactArgs(1),
	}, func(ctx context.Context, v *vault, args []string) error {
		if err := v.drop(ctx, args[0]); err != nil {
			return err
		}
		return a.say(map[string]any{"dropped": args[0]}, func(w io.Writer) { fmt.Fprintf(w, "key %s dropped from %s\n", args[0], v.file.Path) })
	})
}

func (v *vault) drop(ctx context.Context, id string) error {
	if _, err := v.choose([]string{id}); err != nil {
		return err
	}
	u, err := v.usage(ctx)
	switch n := u.Keys[id]; {
	case err != nil:
		return err
	case id == v.sealing.ID || id == v.ring.First():
		return fail(exitUsage, "bulkhead secrets use another first", "secrets are sealed for key %s", id)
	case n > 0:
		return fail(exitUsage, "bulkhead secrets seal seals them anew", "%d values in etcd are sealed for key %s", n, id)
	}
	r, err := v.ring.Drop(id)
	if err != nil {
		return err
	}
	return v.keep(r)
}

func newSecretsWrap(a *app) *cobra.Command {
	return a.onVault(&cobra.Command{
		Use:   "wrap",
		Short: "Have a key management service wrap the file of the keys",
		Long: `Replace the file --opening-keys, which is in plain text or wrapped already, by one
that opens only with the key management service behind --kms. The plug-in at that
socket speaks what Kubernetes' KMS plug-ins do (KMS v2). Hosts ask theirs whenever
their agent starts, or is given another file.`,
		Example: `  bulkhead secrets wrap --opening-keys pki/` + ringName + ` --kms /run/kms/plugin.sock`,
		Args:    cobra.NoArgs,
	}, func(_ context.Context, v *vault, _ []string) error {
		if err := v.needRing(); err != nil {
			return err
		}
		if v.file.KMS == "" {
			return fail(exitUsage, "", "name the plug-in's socket: --kms SOCKET")
		}
		if err := v.keep(v.ring); err != nil {
			return err
		}
		return a.say(map[string]any{"file": v.file.Path, "kms": v.file.KMS}, func(w io.Writer) {
			fmt.Fprintf(w, "%s is wrapped; copies of it from before are not\n", v.file.Path)
		})
	})
}
