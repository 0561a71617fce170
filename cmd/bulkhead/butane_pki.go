package main

import (
	"archive/tar"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bulkhead/butane"
	"bulkhead/butane/pki"
)

func newPKI(a *app) *cobra.Command {
	cmd := group("pki", "Show and renew the cluster's certificates",
		`pki keeps the certificates of etcd, of its users and of the hosts' proxies in the
operator's directory. The keys of its authorities never leave that directory.`,
		`  bulkhead pki show --pki pki`)
	cmd.AddCommand(newPKIShow(a), newPKIRenew(a), newPKIPack(a))
	return cmd
}

func newPKIShow(a *app) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:     "show",
		Short:   "List certificates and when they expire",
		Example: `  bulkhead pki show --pki pki`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := certificatesIn(dir); err != nil {
				return err
			}
			d, err := pki.Open(dir)
			if err != nil {
				return err
			}
			list, err := d.List()
			if err != nil {
				return err
			}
			return a.say(list, func(w io.Writer) {
				rows := [][]string{{"CERTIFICATE", "SUBJECT", "SIGNED BY", "NAMES", "EXPIRES", "RENEWAL"}}
				for _, c := range list {
					due := "from " + c.RenewAt.Format(time.DateOnly)
					if !time.Now().Before(c.RenewAt) {
						due = "DUE"
					}
					rows = append(rows, []string{c.Name, c.Subject, c.Signer, dash(strings.Join(c.Names, " ")), c.Expires.Format(time.DateOnly), due})
				}
				table(w, rows)
			})
		},
	}
	cmd.Flags().StringVar(&dir, "pki", "pki", "directory of the cluster's certificates")
	return cmd
}

func newPKIRenew(a *app) *cobra.Command {
	var o butaneOptions
	cmd := &cobra.Command{
		Use:   "renew",
		Short: "Make certificates that are missing or due",
		Long: `renew makes those certificates anew that have a third of their life left, or that
no longer say what cluster.yaml does, and names them. "bulkhead butane render"
does so too; what runs already gets them by "bulkhead pki pack".`,
		Example: `  bulkhead pki renew --cluster cluster.yaml --pki pki`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			_, _, err := a.certified(o, false)
			return err
		},
	}
	o.pkiFlags(cmd)
	return cmd
}

func newPKIPack(a *app) *cobra.Command {
	var o butaneOptions
	var host string
	cmd := &cobra.Command{
		Use:   "pack --host HOST",
		Short: "Print an archive of a host's certificates, for that host",
		Long: `pack prints a tar archive of the certificates and keys that belong on a host, with
owners and modes, to be unpacked at its root.`,
		Example: `  bulkhead pki pack --host h1 | ssh core@10.0.0.1 sudo tar --extract --same-owner --directory /
  ssh core@10.0.0.1 sudo systemctl restart bulkhead-etcd bulkhead-scheduler bulkhead-agent bulkhead-proxy`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			fleet, dir, err := a.certified(o, false)
			if err != nil {
				return err
			}
			hosts, err := chooseHosts(fleet, []string{host})
			if err != nil {
				return err
			}
			keys, err := dir.Host(hosts[0])
			if err != nil {
				return err
			}
			return pack(a.out, butane.Placed(keys))
		},
	}
	o.pkiFlags(cmd)
	cmd.Flags().StringVar(&host, "host", "", "whose certificates (required)")
	_ = cmd.MarkFlagRequired("host")
	return cmd
}

// pack writes files as a tar archive.
func pack(w io.Writer, files []butane.Place) error {
	t := tar.NewWriter(w)
	for _, f := range files {
		head := &tar.Header{Name: strings.TrimPrefix(f.Path, "/"), Mode: int64(f.Mode), Uid: f.User, Gid: f.User, Size: int64(len(f.Data)), ModTime: time.Now()}
		if err := t.WriteHeader(head); err != nil {
			return fmt.Errorf("cannot pack %s: %w", f.Path, err)
		}
		if _, err := t.Write(f.Data); err != nil {
			return fmt.Errorf("cannot pack %s: %w", f.Path, err)
		}
	}
	return t.Close()
}
