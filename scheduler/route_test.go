package scheduler

import (
	"encoding/json"
	"slices"
	"testing"

	"bulkhead/cluster"
)

func (f *fixture) route(host, instance string) (r cluster.Route) {
	_ = json.Unmarshal([]byte(f.keys[cluster.RouteKey(host, instance)]), &r)
	return r
}

func TestRoutes(t *testing.T) {
	f := newFixture(t)
	h := testHost("h1", "")
	h.Address = "10.0.0.1:8443"
	f.host(h)
	f.tenant("acme", "")
	f.settle()
	f.is("its address is the host's own word", f.route("h1", "acme.0").Address, "10.0.0.1:8443")
	if p, r := f.modified[cluster.PlacementKey("h1", "acme.0")], f.modified[cluster.RouteKey("h1", "acme.0")]; p != r {
		t.Errorf("placement and route were written at %d and %d", p, r)
	}
	f.put(cluster.InventoryKey("h1"), cluster.Inventory{Address: "10.0.0.9:8443"})
	f.settle()
	f.is("unless the operator knows better", f.route("h1", "acme.0").Address, "10.0.0.9:8443")
	f.del(cluster.InventoryKey("h1"))
	f.settle()
	f.lose("h1")
	f.wait(grace)
	f.is("a host that is gone keeps its address", f.route("h1", "acme.0").Address, "10.0.0.1:8443")
	f.model = newSnapshot()
	f.wrote()
	f.relist()
	f.settle()
	if w := f.wrote(); slices.Contains(w, "routes/h1/acme.0") {
		t.Errorf("a new leader, which never saw the host, wrote %q", w)
	}
	f.del(cluster.RouteKey("h1", "acme.0"))
	f.settle()
	f.is("a route that someone deleted comes back", f.route("h1", "acme.0").Tenant, "acme")
	f.put(cluster.RouteKey("h1", "acme.7"), cluster.Route{Tenant: "acme", Instance: "acme.7", Host: "h1"})
	f.settle()
	f.is("one without a placement goes", f.keys[cluster.RouteKey("h1", "acme.7")], "")
}

func TestLeavingIsSaidFirst(t *testing.T) {
	f := newFixture(t)
	f.host(testHost("h1", ""))
	f.tenant("acme", `"replicas":{"min":2}`)
	f.settle()
	f.ready()
	f.tenant("acme", "")
	f.settle()
	if !f.route("h1", "acme.1").Leaving || f.route("h1", "acme.0").Leaving {
		t.Errorf("routes: %+v, %+v", f.route("h1", "acme.0"), f.route("h1", "acme.1"))
	}
	f.tenant("acme", `"replicas":{"min":2}`)
	f.settle()
	f.wait(leaveFor)
	f.is("wanted again in time", f.where("acme"), "acme.0@h1 acme.1@h1")
	if f.route("h1", "acme.1").Leaving {
		t.Error("it still leaves")
	}
	f.tenant("acme", "")
	f.settle()
	f.wait(leaveFor)
	f.is("then removed, with its route", f.where("acme")+f.keys[cluster.RouteKey("h1", "acme.1")], "acme.0@h1")
	f.del(cluster.InstanceKey("h1", "acme.0"), cluster.TenantKey("acme"))
	f.settle()
	f.is("with the tenant", f.keys[cluster.RouteKey("h1", "acme.0")], "")
}
