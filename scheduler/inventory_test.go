package scheduler

import (
	"testing"

	"bulkhead/cluster"
)

func TestInventoryLimitsClaims(t *testing.T) {
	f := newFixture(t)
	f.put(cluster.InventoryKey("h1"), cluster.Inventory{Labels: map[string]string{"zone": "b"}, Memory: 256 * cluster.MiB, CPU: 100, Pids: 500})
	f.host(testHost("h1", "a"))
	f.settle()
	got := f.model.hosts["h1"].presence.Capacity
	if want := (cluster.Resources{Memory: 256 * cluster.MiB, CPU: 4, Pids: 500}); got != want {
		t.Errorf("a host of 2 GiB, 4 cores and 1000 pids, capped, has %+v, want %+v", got, want)
	}
	f.tenant("acme", `"placement":{"labels":{"zone":"a"}}`)
	f.settle()
	f.says("acme", "h1 has no zone=a") // whatever it claims
	f.tenant("acme", `"placement":{"labels":{"zone":"b"}}`)
	f.settle()
	f.is("by the inventory's labels", f.where("acme"), "acme.0@h1")
	f.put(cluster.InventoryKey("h1"), "{broken")
	f.settle()
	f.tenant("bob", `"resources":{"memory":"512MiB"}`)
	f.settle()
	f.says("bob", "h1 has 128MiB free") // the last good one stays
	f.del(cluster.InventoryKey("h1"))
	f.settle()
	f.is("without one its word counts", f.where("bob"), "bob.0@h1")
	f.lose("h1")
	f.settle()
	f.put(cluster.InventoryKey("h2"), cluster.Inventory{})
	f.del(cluster.InventoryKey("h2"))
	if f.model.hosts["h2"] != nil {
		t.Error("a host of which nothing is left is kept")
	}
}
