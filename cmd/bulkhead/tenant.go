package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/cluster"
	"bulkhead/internal/audit"
	"bulkhead/internal/sealed"
)

func newTenant(a *app) *cobra.Command {
	c := group("tenant", "Register, show and remove tenants",
		"A tenant is a key in etcd whose value, the spec, says how its tokens are\nverified, how many instances it gets and what they may use.",
		"  bulkhead tenant apply -f acme.yaml --wait\n  bulkhead tenant list")
	c.AddCommand(newTenantApply(a), newTenantList(a), newTenantShow(a), newTenantRm(a))
	return c
}

func newTenantList(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List tenants and how they stand",
		Example: `  bulkhead tenant list
  bulkhead tenant list -o json | jq '.[].status.phase'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			defer s.Close()
			v, err := s.look(cmd.Context(), standingPrefixes...)
			if err != nil {
				return err
			}
			all := standings(v)
			names := slices.Sorted(maps.Keys(all))
			list := make([]*standing, len(names))
			for i, name := range names {
				list[i] = all[name]
			}
			return a.say(list, func(w io.Writer) { tenantTable(w, list) })
		},
	}
}

func tenantTable(w io.Writer, list []*standing) {
	rows := [][]string{{"TENANT", "PHASE", "READY", "HOSTS", "SAYS"}}
	for _, s := range list {
		phase, says := "unseen", "no scheduler has looked at it"
		if s.Status != nil {
			phase, says = s.Status.Phase, ""
			switch {
			case s.Status.Error != "":
				says = firstLine(s.Status.Error)
			case s.Status.Phase != cluster.PhasePlaced || s.ready() < len(s.Instances):
				says = firstLine(s.why())
			}
		}
		var hosts []string
		for _, i := range s.Instances {
			hosts = append(hosts, i.Host)
		}
		slices.Sort(hosts)
		rows = append(rows, []string{s.Tenant, phase, s.readiness(), dash(strings.Join(slices.Compact(hosts), ",")), dash(says)})
	}
	table(w, rows)
}

func newTenantShow(a *app) *cobra.Command {
	var secrets bool
	c := &cobra.Command{
		Use:   "show TENANT",
		Short: "Show a tenant's spec, status, instances and functions",
		Long:  "Show what was written, what is in force, what is wrong with it and where its\ninstances are. Secrets are left out unless --secrets asks for them.",
		Example: `  bulkhead tenant show acme
  bulkhead tenant show acme -o json --secrets`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeTenants,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			defer s.Close()
			return a.showTenant(cmd.Context(), s, args[0], secrets)
		},
	}
	c.Flags().BoolVar(&secrets, "secrets", false, "show the keys' secrets")
	return c
}

func (a *app) showTenant(ctx context.Context, s store, tenant string, secrets bool) error {
	v, err := s.look(ctx, standingPrefixes...)
	if err != nil {
		return err
	}
	st := standings(v)[tenant]
	if st == nil {
		return noTenant(tenant)
	}
	functions, err := s.functions(ctx, tenant)
	if err != nil {
		return err
	}
	st.Functions = slices.Sorted(maps.Keys(functions))
	spec, err := s.applied(ctx, tenant)
	if err != nil {
		return err
	}
	switch {
	case spec == nil:
	case secrets:
		if spec.Keys, err = a.openKeys(ctx, s, tenant, spec.Keys); err != nil {
			return err
		}
	default:
		for i, k := range spec.Keys {
			switch {
			case k.Secret != "":
				spec.Keys[i].Secret = fmt.Sprintf("(%d bytes)", len(k.Secret))
			case k.Sealed != "":
				spec.Keys[i].Sealed = "(for key " + sealed.KeyID(k.Sealed) + ")"
			}
		}
	}
	if spec != nil && secrets {
		if err := audit.Say(ctx, s.KV, "showed secrets", "tenant "+tenant); err != nil {
			return fmt.Errorf("cannot note in the audit log that secrets are shown: %w", err)
		}
	}
	return a.say(struct {
		*standing
		Spec *cluster.Spec `json:"spec,omitempty"`
	}{st, spec}, func(w io.Writer) { tenantText(w, st, spec) })
}

func tenantText(w io.Writer, s *standing, spec *cluster.Spec) {
	fmt.Fprintf(w, "Tenant     %s\n", s.Tenant)
	if st := s.Status; st == nil {
		fmt.Fprintf(w, "Phase      unseen: no scheduler has looked at it\n")
	} else {
		fmt.Fprintf(w, "Phase      %s\n", st.Phase)
		fmt.Fprintf(w, "Spec       revision %d written, %d seen, %d in force\n", s.Written, st.Observed, st.Applied)
		for i, line := range strings.Split(st.Error, "\n") {
			if line != "" {
				fmt.Fprintf(w, "%-10s %s\n", map[bool]string{true: "Wrong"}[i == 0], line)
			}
		}
		if st.Scaled != "" {
			fmt.Fprintf(w, "Scaled     %s\n", st.Scaled)
		}
		for _, warning := range st.Warnings {
			fmt.Fprintf(w, "Warning    %s\n", warning)
		}
		for _, reason := range st.Reasons {
			fmt.Fprintf(w, "Reason     %s\n", reason)
		}
	}
	for _, i := range s.Instances {
		fmt.Fprintln(w, strings.TrimSpace(fmt.Sprintf("Instance   %s on %s: %s %s", i.Name, i.Host, i.Phase, printable(i.Reason))))
		if i.Network != "" {
			fmt.Fprintf(w, "No network %s on %s: %s\n", i.Name, i.Host, printable(i.Network))
		}
	}
	fmt.Fprintf(w, "Functions  %s\n", dash(strings.Join(s.Functions, ", ")))
	if spec != nil {
		data, _ := json.MarshalIndent(spec, "", "  ")
		fmt.Fprintf(w, "In force   %s\n", strings.ReplaceAll(string(data), "\n", "\n           "))
	}
}

func newTenantRm(a *app) *cobra.Command {
	var (
		purge, wait bool
		timeout     time.Duration
	)
	c := &cobra.Command{
		Use:   "rm TENANT",
		Short: "Remove a tenant: its instances end",
		Long: `Remove a tenant's spec; its instances end and its tokens are refused from then
on. Its functions, which are the tenant's own, are kept for when it is
registered again, unless --purge removes them too.`,
		Example: `  bulkhead tenant rm acme
  bulkhead tenant rm acme --purge --wait`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeTenants,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			defer s.Close()
			return a.removeTenant(cmd.Context(), s, args[0], purge, wait, timeout)
		},
	}
	c.Flags().BoolVar(&purge, "purge", false, "remove its functions too")
	c.Flags().BoolVar(&wait, "wait", false, "wait until its instances are gone")
	c.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "how long to wait")
	return c
}

func (a *app) removeTenant(ctx context.Context, s store, tenant string, purge, wait bool, timeout time.Duration) error {
	if err := checkTenant(tenant); err != nil {
		return err
	}
	// Together with the applied spec, so that it is known to be meant: the
	// scheduler's brake on mass deletion takes no notice.
	ops := []clientv3.Op{clientv3.OpDelete(cluster.TenantKey(tenant)), clientv3.OpDelete(cluster.AppliedKey(tenant))}
	if purge {
		ops = append(ops, clientv3.OpDelete(cluster.TenantFunctions(tenant), clientv3.WithPrefix()), clientv3.OpDelete(cluster.RevocationsKey(tenant)))
	}
	r, err := s.Txn(ctx).Then(ops...).Commit()
	if err != nil {
		return fmt.Errorf("cannot remove tenant %s: %w", tenant, err)
	}
	var purged int64
	if purge {
		purged = r.Responses[2].GetResponseDeleteRange().Deleted
	}
	if r.Responses[0].GetResponseDeleteRange().Deleted+purged == 0 {
		return noTenant(tenant)
	}
	if wait {
		v, gone := s.wait(ctx, timeout, func(v *view) bool {
			st := standings(v)[tenant]
			return st == nil || len(st.Instances) == 0 && !st.observedAny(v)
		}, standingPrefixes...)
		if !gone {
			return fail(exitLate, "bulkhead status shows schedulers and hosts", "tenant %s is removed, but after %s: %s", tenant, timeout, standings(v)[tenant].why())
		}
	}
	kept, err := s.functions(ctx, tenant)
	if err != nil {
		return err
	}
	return a.say(map[string]any{"tenant": tenant, "removed": true, "functions_removed": purged, "functions_kept": len(kept)}, func(w io.Writer) {
		fmt.Fprintf(w, "tenant %s removed\n", tenant)
		if len(kept) > 0 {
			fmt.Fprintf(w, "  its %d functions are kept; bulkhead tenant rm %s --purge removes them\n", len(kept), tenant)
		}
	})
}

// observedAny says whether an agent still reports an instance of the tenant.
func (s *standing) observedAny(v *view) bool {
	for key := range v.keys {
		if names, ok := cluster.SplitKey(key, cluster.InstancesPrefix, 2); ok {
			if tenant, _, err := cluster.ParseInstance(names[1]); err == nil && tenant == s.Tenant {
				return true
			}
		}
	}
	return false
}
