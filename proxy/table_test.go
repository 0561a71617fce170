package proxy

import (
	"maps"
	"slices"

	"bulkhead/cluster"
)

// set makes a table what these instances say, all of which are placed where
// they say they are.
func set(t *Table, instances ...cluster.Instance) {
	k := known{}
	for _, in := range instances {
		r := cluster.Route{Tenant: in.Tenant, Instance: in.Instance, Host: in.Host, Address: "127.0.0.1:1"}
		k.put(in.Tenant, in.Host+"/"+in.Instance, fact{Route: &r, Instance: &in})
	}
	setKnown(t, k)
}

func setKnown(t *Table, k known) {
	t.mu.Lock()
	tenants := slices.Collect(maps.Keys(t.tenants))
	t.mu.Unlock()
	t.update(k, slices.AppendSeq(tenants, maps.Keys(k)))
}
