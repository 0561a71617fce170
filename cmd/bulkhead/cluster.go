package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

func newCluster(a *app) *cobra.Command {
	cmd := group("cluster", "Say what the cluster's machines are, and who may do what",
		`cluster brings what cluster.yaml says of the machines into etcd.`,
		`  bulkhead cluster apply -f cluster.yaml`)
	cmd.AddCommand(newClusterApply(a))
	return cmd
}

func newClusterApply(a *app) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Give every host its users in etcd and its place in the inventory",
		Long: `apply makes etcd's users and roles what cluster.yaml calls for: one user for the
schedulers, one for each host's agent and one for its proxy, each of which may
read and write only what it needs. Hosts that are not in the file lose their
users and their inventory at once. It also notes labels, address and caps of each
host, which count in place of what a host says of itself. The first time it has
etcd check access from then on, and, with --opening-keys, secrets sealed. It needs
the root certificate, and can be run again at any time.`,
		Example: `  bulkhead cluster apply -f cluster.yaml --endpoints https://10.0.0.1:2379 \
    --cacert pki/etcd-ca.crt --cert pki/root.crt --key pki/root.key --opening-keys pki/opening-keys.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error { return a.clusterApply(cmd.Context(), file) },
	}
	cmd.Flags().StringVarP(&file, "file", "f", "cluster.yaml", "the cluster's file; - is standard input")
	return cmd
}

// readFleet reads and checks cluster.yaml.
func (a *app) readFleet(file string) (cluster.Fleet, error) {
	data, err := a.readInput(file)
	if err != nil {
		return cluster.Fleet{}, err
	}
	text, err := toJSON(data)
	if err != nil {
		return cluster.Fleet{}, fail(exitInvalid, "", "%s is neither JSON nor YAML: %w", file, err)
	}
	fleet, problems := cluster.DecodeFleet(text)
	if err := cluster.Invalid(problems); err != nil {
		return fleet, fail(exitInvalid, "nothing was done; docs/operations.md has an example", "%s is not valid:\n  %s", file, strings.ReplaceAll(err.Error(), "\n", "\n  "))
	}
	return fleet, nil
}

func (a *app) clusterApply(ctx context.Context, file string) error {
	fleet, err := a.readFleet(file)
	if err != nil {
		return err
	}
	s, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	changed, gone, err := s.applyInventory(ctx, fleet)
	if err != nil {
		return err
	}
	access, err := etcd.SetAccess(ctx, s.Client, grants(fleet.Users()))
	if err != nil {
		return err
	}
	seals, err := a.beginSealing(ctx, s)
	if err != nil {
		return err
	}
	result := struct {
		Cluster   string            `json:"cluster"`
		Inventory []string          `json:"inventory_changed,omitempty"`
		Gone      []string          `json:"inventory_removed,omitempty"`
		Users     etcd.AccessChange `json:"users"`
		Seals     string            `json:"seals,omitempty"` // the key that secrets are sealed for from now on
	}{fleet.Name, changed, gone, access, seals}
	if trusted := uncapped(fleet); len(trusted) > 0 {
		a.note("no caps are set for %s: whatever room such a host claims to have is believed, so that one which was taken over can draw every tenant that is placed anew; set caps in %s", strings.Join(trusted, ", "), file)
	}
	return a.say(result, func(w io.Writer) {
		quiet := true
		for _, line := range []struct {
			names []string
			what  string
		}{
			{changed, "inventory changed of"}, {gone, "inventory removed of"},
			{access.Added, "users added:"}, {access.Changed, "users changed:"}, {access.Removed, "users removed:"},
		} {
			if len(line.names) > 0 {
				quiet = false
				fmt.Fprintln(w, line.what, strings.Join(line.names, " "))
			}
		}
		if seals != "" {
			quiet = false
			fmt.Fprintf(w, "secrets are sealed for key %s from now on\n", seals)
		}
		if access.Enabled {
			fmt.Fprintln(w, "etcd checks access from now on")
		} else if quiet {
			fmt.Fprintf(w, "cluster %s is as %s says\n", fleet.Name, file)
		}
	})
}

// uncapped are the hosts whose own word on how much room they have is all that
// counts.
func uncapped(fleet cluster.Fleet) []string {
	var names []string
	for _, h := range fleet.Workers() {
		if h.Caps.Memory == 0 || h.Caps.CPU == 0 || h.Caps.Pids == 0 {
			names = append(names, h.Name)
		}
	}
	return names
}

// applyInventory writes what the operator says of each host, and removes what
// is said of others.
func (s store) applyInventory(ctx context.Context, fleet cluster.Fleet) (changed, gone []string, err error) {
	v, err := s.look(ctx, cluster.InventoryPrefix)
	if err != nil {
		return nil, nil, err
	}
	var groups [][]etcd.Op
	want := map[string]bool{}
	for _, h := range fleet.Workers() {
		key := cluster.InventoryKey(h.Name)
		value, err := json.Marshal(fleet.Inventory(h))
		if err != nil {
			return nil, nil, fmt.Errorf("cannot encode inventory of %s: %w", h.Name, err)
		}
		want[key] = true
		if string(v.keys[key].Value) != string(value) {
			groups, changed = append(groups, []etcd.Op{etcd.Put(key, value)}), append(changed, h.Name)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(v.keys)) {
		if !want[key] {
			groups, gone = append(groups, []etcd.Op{etcd.Delete(key)}), append(gone, strings.TrimPrefix(key, cluster.InventoryPrefix))
		}
	}
	if _, err := etcd.Commit(ctx, s.Client, nil, groups...); err != nil {
		return nil, nil, fmt.Errorf("cannot write the inventory: %w", err)
	}
	return changed, gone, nil
}

// grants translates who may do what into etcd's words.
func grants(users map[string][]cluster.Access) map[string][]etcd.Grant {
	all := make(map[string][]etcd.Grant, len(users))
	for user, list := range users {
		for _, access := range list {
			g := etcd.Grant{Key: access.Key, Write: access.Write}
			if access.Prefix {
				g = etcd.Below(access.Key, access.Write)
			}
			all[user] = append(all[user], g)
		}
	}
	return all
}
