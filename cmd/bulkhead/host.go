package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// hostPrefixes are what hostViews reads, beside standingPrefixes.
var hostPrefixes = append([]string{
	cluster.HostsPrefix, cluster.InventoryPrefix, cluster.CordonsPrefix, cluster.DrainsPrefix,
}, standingPrefixes...)

// hostView is a host with what is reserved on it.
type hostView struct {
	Name      string             `json:"name"`
	State     string             `json:"state"` // ready, unready, cordoned, distrusted, draining, drained or gone
	Reason    string             `json:"reason,omitempty"`
	Instances int                `json:"instances"`
	Used      cluster.Resources  `json:"used"`
	Capacity  cluster.Resources  `json:"capacity"`
	Labels    map[string]string  `json:"labels,omitempty"`
	Address   string             `json:"address,omitempty"`
	Init      string             `json:"init,omitempty"`
	Versions  map[string]string  `json:"versions,omitempty"`
	Runtimes  []string           `json:"runtimes,omitempty"`
	Since     time.Time          `json:"since,omitzero"`
	Cordon    *string            `json:"cordon,omitempty"`
	Drain     *string            `json:"drain,omitempty"`
	Distrust  *cluster.Distrust  `json:"distrust,omitempty"`
	Inventory *cluster.Inventory `json:"inventory,omitempty"`

	present bool
	unready string
}

// hostViews gathers all hosts from a view of hostPrefixes.
func hostViews(v *view) map[string]*hostView {
	hosts := map[string]*hostView{}
	of := func(name string) *hostView {
		if hosts[name] == nil {
			hosts[name] = &hostView{Name: name}
		}
		return hosts[name]
	}
	under(v, cluster.InventoryPrefix, 1, func(n []string, i cluster.Inventory, _ etcd.Event) { of(n[0]).Inventory = &i })
	under(v, cluster.HostsPrefix, 1, func(n []string, h cluster.Host, _ etcd.Event) {
		x := of(n[0])
		h = x.Inventory.Limit(h)
		x.unready = h.Unready
		x.present, x.Capacity, x.Labels, x.Address, x.Init, x.Versions, x.Runtimes, x.Since = true, h.Capacity, h.Labels, h.Address, h.Init, h.Versions, h.Runtimes, h.Since
	})
	under(v, cluster.PlacementsPrefix, 2, func(n []string, p cluster.Placement, _ etcd.Event) {
		x := of(n[0])
		x.Instances++
		x.Used.Memory += p.Resources.Memory
		x.Used.CPU += p.Resources.CPU
		x.Used.Pids += p.Resources.Pids
	})
	under(v, cluster.StatusPrefix+"hosts/", 1, func(n []string, d cluster.Distrust, _ etcd.Event) { of(n[0]).Distrust = &d })
	for key, e := range v.keys {
		reason := string(e.Value)
		if n, ok := cluster.SplitKey(key, cluster.CordonsPrefix, 1); ok {
			of(n[0]).Cordon = &reason
		} else if n, ok := cluster.SplitKey(key, cluster.DrainsPrefix, 1); ok {
			of(n[0]).Drain = &reason
		}
	}
	for _, h := range hosts {
		h.State, h.Reason = h.stands()
	}
	return hosts
}

// stands says in a word how the host is, and why.
func (h *hostView) stands() (state, reason string) {
	switch {
	case h.Drain != nil && h.Instances == 0:
		return "drained", *h.Drain
	case h.Drain != nil:
		return "draining", *h.Drain
	case !h.present && h.Cordon != nil:
		return "gone", *h.Cordon
	case !h.present && h.Instances > 0:
		return "gone", "nothing is heard of its agent; what it has starts elsewhere half a minute after it was lost"
	case !h.present:
		return "gone", "nothing is heard of its agent"
	case h.Cordon != nil:
		return "cordoned", *h.Cordon
	case h.Distrust != nil:
		return "distrusted", fmt.Sprintf("until %s: %s", h.Distrust.Until.Local().Format("15:04"), h.Distrust.Reason)
	}
	if h.unready != "" {
		return "unready", h.unready
	}
	return "ready", ""
}

// inOrder returns the hosts by name.
func inOrder(hosts map[string]*hostView) []hostView {
	list := []hostView{}
	for _, name := range slices.Sorted(maps.Keys(hosts)) {
		list = append(list, *hosts[name])
	}
	return list
}

func newHost(a *app) *cobra.Command {
	c := group("host", "Show hosts, and take them out of service and back",
		"A host is in service while its agent keeps its presence in etcd. A cordoned\nhost gets nothing new; a drained one is left by what it has: replacements start\nelsewhere, and when they serve, the old instances go.",
		"  bulkhead host list\n  bulkhead host drain h1 --reason 'new kernel' --wait\n  bulkhead host undrain h1")
	c.AddCommand(newHostList(a), newHostShow(a), newHostCordon(a), newHostUncordon(a), newHostDrain(a), newHostUndrain(a), newHostRm(a))
	return c
}

func newHostList(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List hosts and how they stand",
		Example: `  bulkhead host list
  bulkhead host list -o json | jq '.[] | select(.state != "ready")'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			defer s.Close()
			v, err := s.look(cmd.Context(), hostPrefixes...)
			if err != nil {
				return err
			}
			list := inOrder(hostViews(v))
			return a.say(list, func(w io.Writer) { hostTable(w, list) })
		},
	}
}

func hostTable(w io.Writer, list []hostView) {
	rows := [][]string{{"HOST", "STATE", "INSTANCES", "MEMORY", "CORES", "PIDS", "LABELS", "INIT", "UP", "SAYS"}}
	for _, h := range list {
		rows = append(rows, []string{
			h.Name, h.State, fmt.Sprint(h.Instances),
			fmt.Sprintf("%s of %s", short(h.Used.Memory), short(h.Capacity.Memory)),
			fmt.Sprintf("%.4g of %.4g", h.Used.CPU, h.Capacity.CPU),
			fmt.Sprintf("%d of %d", h.Used.Pids, h.Capacity.Pids),
			dash(words(h.Labels)), dash(h.Init), age(h.Since), dash(firstLine(h.Reason)),
		})
	}
	table(w, rows)
}

// words writes labels as zone=a,disk=ssd.
func words(labels map[string]string) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		all = append(all, printable(name+"="+labels[name]))
	}
	return strings.Join(all, ",")
}

func newHostShow(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "show HOST",
		Short: "Show a host, what it has and what keeps that there",
		Example: `  bulkhead host show h1
  bulkhead host show h1 -o json | jq .versions`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeHosts,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			defer s.Close()
			v, h, err := s.host(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			here := instancesOn(v, h.Name)
			return a.say(struct {
				*hostView
				Placed []placement `json:"placed"`
			}{h, here}, func(w io.Writer) { hostText(w, h, here) })
		},
	}
}

// placement is an instance on a host, and why it is still there if the host is
// being left.
type placement struct {
	instance
	Tenant string `json:"tenant"`
	Waits  string `json:"waits,omitempty"`
}

// instancesOn lists what a host has, by name.
func instancesOn(v *view, host string) []placement {
	all := []placement{}
	for _, s := range standings(v) {
		for _, i := range s.Instances {
			if i.Host == host {
				all = append(all, placement{i, s.Tenant, s.waits()})
			}
		}
	}
	slices.SortFunc(all, func(a, b placement) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// waits is why one of a tenant's instances has no host.
func (s *standing) waits() string {
	if s.Status != nil {
		for _, reason := range s.Status.Reasons {
			if strings.Contains(reason, " waits: ") {
				return reason
			}
		}
	}
	return ""
}

func hostText(w io.Writer, h *hostView, here []placement) {
	fmt.Fprintf(w, "Host       %s\n", h.Name)
	fmt.Fprintln(w, strings.TrimSpace(fmt.Sprintf("State      %s %s", h.State, printable(h.Reason))))
	fmt.Fprintf(w, "Room       %s of %s, %.4g of %.4g cores, %d of %d pids used\n",
		short(h.Used.Memory), short(h.Capacity.Memory), h.Used.CPU, h.Capacity.CPU, h.Used.Pids, h.Capacity.Pids)
	fmt.Fprintf(w, "Labels     %s\n", dash(words(h.Labels)))
	fmt.Fprintf(w, "Address    %s\n", dash(printable(h.Address)))
	fmt.Fprintf(w, "Versions   %s\n", dash(words(h.Versions)))
	fmt.Fprintf(w, "Runtimes   %s\n", dash(strings.Join(h.Runtimes, " ")))
	if h.Distrust != nil {
		fmt.Fprintf(w, "Distrusted until %s: %s\n", h.Distrust.Until.Local().Format(time.DateTime), h.Distrust.Reason)
	}
	for _, p := range here {
		fmt.Fprintln(w, strings.TrimSpace(fmt.Sprintf("Instance   %s: %s %s", p.Name, p.Phase, printable(p.Reason))))
		if h.Drain != nil && p.Waits != "" {
			fmt.Fprintf(w, "             %s\n", p.Waits)
		}
	}
}

// host finds one host, in a view of hostPrefixes.
func (s store) host(ctx context.Context, name string) (*view, *hostView, error) {
	if err := cluster.CheckHost(name); err != nil {
		return nil, nil, &failure{exitInvalid, err, ""}
	}
	v, err := s.look(ctx, hostPrefixes...)
	if err != nil {
		return nil, nil, err
	}
	if h := hostViews(v)[name]; h != nil {
		return v, h, nil
	}
	return nil, nil, fail(exitNotFound, "bulkhead host list shows those there are", "there is no host %q", name)
}
