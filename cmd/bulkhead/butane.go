package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"bulkhead/butane"
	"bulkhead/butane/pki"
	"bulkhead/cluster"
	"bulkhead/internal/kept"
)

// butaneOptions say which hosts to render, from what.
type butaneOptions struct {
	cluster   string // cluster.yaml
	hosts     []string
	pki       string // directory of certificates
	artifacts string // directory of what hosts fetch
	out       string // directory for the results; empty: Ignition to standard output
	joins     bool
}

func newButane(a *app) *cobra.Command {
	cmd := group("butane", "Render what machines are provisioned from",
		`butane makes of cluster.yaml the Butane and Ignition configuration of each host,
for Fedora CoreOS or Flatcar.`,
		`  bulkhead butane render --cluster cluster.yaml --pki pki --artifacts artifacts --out out`)
	cmd.AddCommand(newButaneRender(a), newButanePack(a))
	return cmd
}

// packed is what hosts can be told to have.
type packed struct {
	Release string `json:"release"`
	Image   string `json:"image"`
}

func newButanePack(a *app) *cobra.Command {
	dir := "artifacts"
	cmd := &cobra.Command{
		Use:   "pack",
		Short: "Name artifacts by their digests, for hosts that run already",
		Long: `pack copies the binaries and the image in --artifacts to names with their digests
(bulkhead-<digest>, image-<id>.tar), writes the release's manifest
(release-<digest>.json), and prints the digests by which a rollout asks for them.
What was packed before stays, so that a rollout can be undone.`,
		Example: `  bulkhead butane pack --artifacts artifacts`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			all, err := butane.ReadArtifacts(dir)
			if err != nil {
				return fail(exitNotFound, "put them there: bulkhead, bulkhead-runner, bulkhead-cell, bulkhead-jail and image.tar", "%w", err)
			}
			if err := all.Pack(dir); err != nil {
				return err
			}
			p := packed{Release: all.Release().Digest(), Image: all.Image}
			return a.say(p, func(w io.Writer) { fmt.Fprintf(w, "release %s\nimage   %s\n", p.Release, p.Image) })
		},
	}
	cmd.Flags().StringVar(&dir, "artifacts", dir, "directory: what hosts fetch")
	return cmd
}

func newButaneRender(a *app) *cobra.Command {
	var o butaneOptions
	cmd := &cobra.Command{
		Use:   "render",
		Short: "Render Butane and Ignition for hosts",
		Long: `render writes <host>.bu and <host>.ign for each host of cluster.yaml, or for those
named by --host, into --out. For one host and without --out it prints its
Ignition. Certificates that are missing or have a third of their life left are
made in --pki first. Both files hold the host's private keys: their mode is 0600.

The directory --artifacts holds bulkhead, bulkhead-runner, bulkhead-cell,
bulkhead-jail and image.tar, the same files that cluster.yaml's "artifacts" URL
serves: hosts refuse others.`,
		Example: `  bulkhead butane render --cluster cluster.yaml --pki pki --artifacts artifacts --out out
  bulkhead butane render --cluster cluster.yaml --pki pki --artifacts artifacts --host h4 --joins-etcd --out out`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return a.butaneRender(cmd.Context(), o) },
	}
	f := cmd.Flags()
	o.pkiFlags(cmd)
	f.StringSliceVar(&o.hosts, "host", nil, "only these hosts")
	f.StringVar(&o.artifacts, "artifacts", "artifacts", "directory: what hosts fetch")
	f.StringVar(&o.out, "out", "", "directory for <host>.bu and <host>.ign, made if absent")
	f.BoolVar(&o.joins, "joins-etcd", false, "the cluster's etcd runs already and was told of this member")
	return cmd
}

// pkiFlags are what all commands with certificates take.
func (o *butaneOptions) pkiFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.cluster, "cluster", "cluster.yaml", "file: the cluster's; - is standard input")
	f.StringVar(&o.pki, "pki", "pki", "directory of the cluster's certificates; butane render makes it")
}

// rendered is what was made for one host.
type rendered struct {
	Host     string `json:"host"`
	Butane   string `json:"butane"`
	Ignition string `json:"ignition"`
}

func (a *app) butaneRender(_ context.Context, o butaneOptions) error {
	fleet, dir, err := a.certified(o, true)
	if err != nil {
		return err
	}
	hosts, err := chooseHosts(fleet, o.hosts)
	if err != nil {
		return err
	}
	if o.out == "" && len(hosts) != 1 {
		return fail(exitUsage, "give --out DIR, or one --host", "%d hosts don't fit standard output", len(hosts))
	}
	artifacts, err := butane.ReadArtifacts(o.artifacts)
	if errors.Is(err, os.ErrNotExist) {
		return fail(exitNotFound, "scripts/build builds the binaries, bulkhead image build writes image.tar; put all five files there", "%w", err)
	}
	if err != nil {
		return err
	}
	tls, err := clientTLS(fleet)
	if err != nil {
		return err
	}
	var all []rendered
	for _, h := range hosts {
		keys, err := dir.Host(h)
		if err != nil {
			return err
		}
		r, err := renderHost(butane.Input{Fleet: fleet, Host: h, Artifacts: artifacts, Keys: keys, TLS: tls, Joins: o.joins}, o.out, a.out)
		if err != nil {
			return err
		}
		all = append(all, r)
	}
	if o.out == "" {
		return nil
	}
	return a.say(all, func(w io.Writer) {
		for _, r := range all {
			fmt.Fprintf(w, "host %s: %s %s\n", r.Host, r.Butane, r.Ignition)
		}
	})
}

// certified reads cluster.yaml and makes the certificates that it calls for.
// Authorities are made only for a cluster that is to be.
func (a *app) certified(o butaneOptions, begins bool) (cluster.Fleet, *pki.Directory, error) {
	fleet, err := a.readFleet(o.cluster)
	if err == nil && !begins {
		err = certificatesIn(o.pki)
	}
	if err != nil {
		return fleet, nil, err
	}
	dir, err := pki.Open(o.pki)
	if err != nil {
		return fleet, nil, err
	}
	changes, err := dir.Ensure(fleet)
	for _, c := range changes {
		a.note("certificate %s made: %s", c.Name, c.Reason)
	}
	return fleet, dir, err
}

// certificatesIn refuses a directory that is not a cluster's: in a wrong one
// all would seem well.
func certificatesIn(dir string) error {
	if pki.Exists(dir) {
		return nil
	}
	return fail(exitNotFound, "name the directory that bulkhead butane render has made: --pki DIR", "there are no certificates of a cluster in %s", dir)
}

func chooseHosts(fleet cluster.Fleet, names []string) ([]cluster.FleetHost, error) {
	if len(names) == 0 {
		return fleet.Hosts, nil
	}
	var hosts []cluster.FleetHost
	for _, name := range names {
		h, ok := fleet.Host(name)
		if !ok {
			return nil, fail(exitNotFound, "add it to the cluster's file", "cluster %s has no host %q", fleet.Name, name)
		}
		hosts = append(hosts, h)
	}
	return hosts, nil
}

// clientTLS reads the proxies' certificate for clients, if there is one.
func clientTLS(fleet cluster.Fleet) ([]pki.File, error) {
	if fleet.TLS == nil {
		return nil, nil
	}
	var files []pki.File
	for _, f := range []struct{ name, path string }{{"tls.crt", fleet.TLS.Cert}, {"tls.key", fleet.TLS.Key}} {
		data, err := os.ReadFile(f.path)
		if err != nil {
			return nil, fail(exitNotFound, "its path is relative to where you are", "cannot read the proxies' certificate: %w", err)
		}
		files = append(files, pki.File{Name: f.name, Data: data})
	}
	return files, nil
}

func renderHost(in butane.Input, out string, stdout io.Writer) (rendered, error) {
	text, err := butane.Render(in)
	if err != nil {
		return rendered{}, err
	}
	ignition, err := butane.Ignition(text)
	if err != nil {
		return rendered{}, fmt.Errorf("host %s: %w", in.Host.Name, err)
	}
	if out == "" {
		_, err := stdout.Write(ignition)
		return rendered{}, err
	}
	r := rendered{in.Host.Name, filepath.Join(out, in.Host.Name+".bu"), filepath.Join(out, in.Host.Name+".ign")}
	err = errors.Join(os.MkdirAll(out, 0o700), kept.Write(r.Butane, text, 0o600), kept.Write(r.Ignition, ignition, 0o600))
	if err != nil {
		return r, fmt.Errorf("cannot write what host %s is made from: %w", in.Host.Name, err)
	}
	return r, nil
}
