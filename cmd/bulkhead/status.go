package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/cluster"
)

// overview is the whole cluster on one page.
type overview struct {
	Revision int64          `json:"revision"`
	Leader   string         `json:"leader,omitempty"` // of the schedulers
	Waiting  int            `json:"schedulers_waiting"`
	Hosts    []hostView     `json:"hosts"`
	Tenants  []*standing    `json:"tenants"`
	Brake    *cluster.Brake `json:"brake,omitempty"`
	Lost     *cluster.Brake `json:"lost,omitempty"`     // most hosts, at once
	Rollouts []string       `json:"rollouts,omitempty"` // what is said of those that have not ended, and of hosts' turns
}

func newStatus(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show hosts, tenants, instances and the leader",
		Example: `  bulkhead status
  bulkhead status -o json | jq '.hosts[].state'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			defer s.Close()
			v, err := s.look(cmd.Context(), append([]string{cluster.RolloutsPrefix, cluster.CyclesPrefix, cluster.AsksPrefix}, hostPrefixes...)...)
			if err != nil {
				return err
			}
			o := see(v)
			leaders, err := s.Get(cmd.Context(), cluster.ElectionPrefix+"scheduler/", clientv3.WithPrefix(), clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend))
			if err != nil {
				return fmt.Errorf("cannot read who leads: %w", err)
			}
			for i, kv := range leaders.Kvs {
				if i == 0 {
					o.Leader = string(kv.Value)
				} else {
					o.Waiting++
				}
			}
			return a.say(o, func(w io.Writer) { o.text(w) })
		},
	}
}

// see makes an overview of a view.
func see(v *view) overview {
	o := overview{Revision: v.revision, Tenants: []*standing{}}
	o.Hosts = inOrder(hostViews(v))
	all := standings(v)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		o.Tenants = append(o.Tenants, all[name])
	}
	if b, ok := get[cluster.Brake](v, cluster.BrakeKey); ok {
		o.Brake = &b
	}
	if b, ok := get[cluster.Brake](v, cluster.HostBrakeKey); ok {
		o.Lost = &b
	}
	for _, r := range rolloutViews(v) {
		if !r.ended() {
			o.Rollouts = append(o.Rollouts, strings.TrimRight(fmt.Sprintf("%s is %s, %d of %d hosts: %s", r.ID, r.Status.Phase, r.Done, len(r.Hosts), r.Status.Reason), ": "))
		}
	}
	for _, l := range locks(v) {
		if l.Alert != "" {
			o.Rollouts = append(o.Rollouts, "ALERT: "+l.Alert)
		}
	}
	return o
}

func (o overview) text(w io.Writer) {
	fmt.Fprintf(w, "Scheduler  %s (%d more waiting), etcd revision %d\n", cmp.Or(o.Leader, "none leads: no placement changes until one runs"), o.Waiting, o.Revision)
	if o.Brake != nil {
		fmt.Fprintf(w, "BRAKE      %s\n", o.Brake.Reason)
	}
	if o.Lost != nil {
		fmt.Fprintf(w, "BRAKE      %s\n", o.Lost.Reason)
	}
	for _, line := range o.Rollouts {
		fmt.Fprintf(w, "Rollout    %s\n", line)
	}
	fmt.Fprintln(w)
	hostTable(w, o.Hosts)
	fmt.Fprintln(w)
	tenantTable(w, o.Tenants)
	rows := [][]string{{"INSTANCE", "HOST", "PHASE", "SAYS"}}
	for _, t := range o.Tenants {
		for _, i := range t.Instances {
			rows = append(rows, []string{i.Name, i.Host, string(i.Phase), dash(firstLine(cmp.Or(i.Reason, i.Why)))})
		}
	}
	fmt.Fprintln(w)
	table(w, rows)
}

// short writes a size as a person would say it.
func short(b cluster.Bytes) string {
	switch {
	case b >= 10*cluster.GiB:
		return fmt.Sprintf("%.0fGiB", float64(b)/float64(cluster.GiB))
	case b >= cluster.GiB:
		return fmt.Sprintf("%.1fGiB", float64(b)/float64(cluster.GiB))
	}
	return fmt.Sprintf("%dMiB", b/cluster.MiB)
}
