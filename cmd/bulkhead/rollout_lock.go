package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// lock is a host that has its turn, or asks for it.
type lock struct {
	Host    string            `json:"host"`
	Group   string            `json:"group"`
	For     string            `json:"for"`            // a rollout, or fleetlock
	Step    cluster.CycleStep `json:"step,omitempty"` // none: it asks
	Since   time.Time         `json:"since"`          // when its cycle began, or it asked
	Waiting []string          `json:"waiting,omitempty"`
	Alert   string            `json:"alert,omitempty"`
}

// locks gathers them from a view of rolloutPrefixes, holders first.
func locks(v *view) []lock {
	all := []lock{}
	under(v, cluster.CyclesPrefix, 1, func(n []string, c cluster.Cycle, _ etcd.Event) {
		l := lock{n[0], c.Group, c.For, c.Step, c.Begun, c.Waiting, c.Alert}
		if c.Stopped != "" {
			l.Alert = c.Stopped
		}
		all = append(all, l)
	})
	under(v, cluster.AsksPrefix, 1, func(n []string, a cluster.Ask, _ etcd.Event) {
		if _, has := v.keys[cluster.CycleKey(n[0])]; a.Wanted && !has {
			all = append(all, lock{Host: n[0], Group: a.Group, For: cluster.FleetLock, Since: a.Time})
		}
	})
	slices.SortFunc(all, func(a, b lock) int {
		if (a.Step == "") != (b.Step == "") {
			return map[bool]int{true: 1, false: -1}[a.Step == ""]
		}
		return strings.Compare(a.Host, b.Host)
	})
	return all
}

func newRolloutLocks(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "locks",
		Short: "List hosts that have their turn, and those that ask for it",
		Long: `List the hosts that are in their cycle, for a rollout or because they asked for
their turn by FleetLock, and then those that ask for it. Hosts of one group take
turns. One that has had its turn for more than an hour is pointed out.`,
		Example: `  bulkhead rollout locks
  bulkhead rollout locks -o json | jq '.[] | select(.alert)'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			defer s.Close()
			v, err := s.look(cmd.Context(), rolloutPrefixes...)
			if err != nil {
				return err
			}
			all := locks(v)
			return a.say(all, func(w io.Writer) {
				rows := [][]string{{"HOST", "GROUP", "FOR", "STEP", "AGE", "SAYS"}}
				for _, l := range all {
					step, says := string(l.Step), l.Alert
					if step == "" {
						step = "asks"
					}
					if says == "" {
						says = strings.Join(l.Waiting, "; ")
					}
					rows = append(rows, []string{l.Host, l.Group, l.For, step, age(l.Since), dash(firstLine(says))})
				}
				table(w, rows)
			})
		},
	}
}

func newRolloutUnlock(a *app) *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use:   "unlock HOST --force",
		Short: "Take a host's turn away",
		Long: `End a host's cycle by force, whatever it is at: its drain is lifted and another may
have its turn. The rollout that it was for stops. A host that was told to boot may
still do so, with tenants on it. For one that will never come back, drain it first
(bulkhead host drain): that stays.`,
		Example:           `  bulkhead rollout unlock h1 --force`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeHosts,
		RunE: func(cmd *cobra.Command, args []string) error {
			host := args[0]
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			defer s.Close()
			_, cycle, err := s.read(cmd.Context(), cluster.CycleKey(host))
			if err != nil {
				return err
			}
			_, ask, err := s.read(cmd.Context(), cluster.AskKey(host))
			switch {
			case err != nil:
				return err
			case cycle == 0 && ask == 0:
				return fail(exitNotFound, "bulkhead rollout locks shows who has", "host %q has no turn and asks for none", host)
			case !force:
				return fail(exitUsage, "bulkhead rollout locks shows what it waits for; --force takes its turn away all the same", "the turn of host %s ends by itself once the host is back and well", host)
			}
			if _, err := s.Txn(cmd.Context()).Then(clientv3.OpDelete(cluster.CycleKey(host)), clientv3.OpDelete(cluster.AskKey(host))).Commit(); err != nil {
				return fmt.Errorf("cannot take the turn of host %s away: %w", host, err)
			}
			return a.say(map[string]string{"unlocked": host}, func(w io.Writer) { fmt.Fprintf(w, "host %s has its turn no more\n", host) })
		},
	}
	c.Flags().BoolVar(&force, "force", false, "although it is not done")
	return c
}
