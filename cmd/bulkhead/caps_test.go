package main

import (
	"slices"
	"testing"

	"bulkhead/cluster"
)

func TestHostsWithoutCapsAreNamed(t *testing.T) {
	caps := cluster.FleetCaps{Memory: cluster.GiB, CPU: 8, Pids: 100}
	partly := caps
	partly.Pids = 0
	fleet := cluster.Fleet{Hosts: []cluster.FleetHost{
		{Name: "c1", Roles: []string{cluster.RoleControl}},
		{Name: "h1", Roles: []string{cluster.RoleHost}, Caps: caps},
		{Name: "h2", Roles: []string{cluster.RoleHost}, Caps: partly},
		{Name: "h3", Roles: []string{cluster.RoleHost, cluster.RoleControl}},
	}}
	if got, want := uncapped(fleet), []string{"h2", "h3"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
