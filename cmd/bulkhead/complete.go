package main

import (
	"strings"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/cluster"
)

// completeTenants completes a first argument with tenants' names.
func (a *app) completeTenants(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return a.completeKeys(cmd, cluster.TenantsPrefix), cobra.ShellCompDirectiveNoFileComp
}

// completeFunctions completes a tenant, then one of its functions.
func (a *app) completeFunctions(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 1 {
		return a.completeKeys(cmd, cluster.TenantFunctions(args[0])), cobra.ShellCompDirectiveNoFileComp
	}
	return a.completeTenants(cmd, args, typed)
}

// completeHosts completes a first argument with names of present hosts.
func (a *app) completeHosts(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.completeKeys(cmd, cluster.HostsPrefix), cobra.ShellCompDirectiveNoFileComp
}

func (a *app) completeKeys(cmd *cobra.Command, prefix string) []string {
	s, err := a.open(cmd.Context())
	if err != nil {
		return nil
	}
	defer s.Close()
	r, err := s.Get(cmd.Context(), prefix, clientv3.WithPrefix(), clientv3.WithKeysOnly(), clientv3.WithLimit(1000))
	if err != nil {
		return nil
	}
	var names []string
	for _, kv := range r.Kvs {
		names = append(names, strings.TrimPrefix(string(kv.Key), prefix))
	}
	return names
}
