package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// overview is the whole cluster on one page.
type overview struct {
	Revision int64          `json:"revision"`
	Leader   string         `json:"leader,omitempty"` // of the schedulers
	Waiting  int            `json:"schedulers_waiting"`
	Hosts    []hostView     `json:"hosts"`
	Tenants  []*standing    `json:"tenants"`
	Brake    *cluster.Brake `json:"brake,omitempty"`
}

// hostView is a host with what is reserved on it.
type hostView struct {
	Name      string            `json:"name"`
	State     string            `json:"state"` // ready, cordoned or gone
	Reason    string            `json:"reason,omitempty"`
	Instances int               `json:"instances"`
	Used      cluster.Resources `json:"used"`
	Capacity  cluster.Resources `json:"capacity"`
	Labels    map[string]string `json:"labels,omitempty"`
	Init      string            `json:"init,omitempty"`
	Versions  map[string]string `json:"versions,omitempty"`
	Since     time.Time         `json:"since,omitzero"`
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
			v, err := s.look(cmd.Context(), append([]string{cluster.HostsPrefix, cluster.CordonsPrefix}, standingPrefixes...)...)
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
	o := overview{Revision: v.revision, Hosts: []hostView{}, Tenants: []*standing{}}
	hosts := map[string]*hostView{}
	of := func(name string) *hostView {
		if hosts[name] == nil {
			hosts[name] = &hostView{Name: name, State: "gone"}
		}
		return hosts[name]
	}
	under(v, cluster.HostsPrefix, 1, func(n []string, h cluster.Host, _ etcd.Event) {
		x := of(n[0])
		x.State, x.Capacity, x.Labels, x.Init, x.Versions, x.Since = "ready", h.Capacity, h.Labels, h.Init, h.Versions, h.Since
	})
	under(v, cluster.PlacementsPrefix, 2, func(n []string, p cluster.Placement, _ etcd.Event) {
		x := of(n[0])
		x.Instances++
		x.Used.Memory += p.Resources.Memory
		x.Used.CPU += p.Resources.CPU
		x.Used.Pids += p.Resources.Pids
	})
	for key, e := range v.keys {
		if n, ok := cluster.SplitKey(key, cluster.CordonsPrefix, 1); ok {
			x := of(n[0])
			x.Reason = string(e.Value)
			if x.State == "ready" {
				x.State = "cordoned"
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(hosts)) {
		o.Hosts = append(o.Hosts, *hosts[name])
	}
	all := standings(v)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		o.Tenants = append(o.Tenants, all[name])
	}
	if b, ok := get[cluster.Brake](v, cluster.BrakeKey); ok {
		o.Brake = &b
	}
	return o
}

func (o overview) text(w io.Writer) {
	fmt.Fprintf(w, "Scheduler  %s (%d more waiting), etcd revision %d\n", cmp.Or(o.Leader, "none leads: no placement changes until one runs"), o.Waiting, o.Revision)
	if o.Brake != nil {
		fmt.Fprintf(w, "BRAKE      %s\n", o.Brake.Reason)
	}
	fmt.Fprintln(w)
	rows := [][]string{{"HOST", "STATE", "INSTANCES", "MEMORY", "CORES", "PIDS", "INIT", "UP", "SAYS"}}
	for _, h := range o.Hosts {
		rows = append(rows, []string{
			h.Name, h.State, fmt.Sprint(h.Instances),
			fmt.Sprintf("%s of %s", short(h.Used.Memory), short(h.Capacity.Memory)),
			fmt.Sprintf("%.4g of %.4g", h.Used.CPU, h.Capacity.CPU),
			fmt.Sprintf("%d of %d", h.Used.Pids, h.Capacity.Pids),
			dash(h.Init), age(h.Since), dash(firstLine(h.Reason)),
		})
	}
	table(w, rows)
	fmt.Fprintln(w)
	tenantTable(w, o.Tenants)
	rows = [][]string{{"INSTANCE", "HOST", "PHASE", "SAYS"}}
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
