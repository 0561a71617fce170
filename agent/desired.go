package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"bulkhead/agent/cells"
	"bulkhead/cluster"
	"bulkhead/units"
)

// Desired is what should run on the host, by instance.
type Desired map[string]Want

// Want is what is desired of one instance.
type Want struct {
	Placement cluster.Placement
	Revision  int64        // of the placement
	Units     []units.Unit // tenant's slice, instance's slice, socket, service
	Missing   string       // why it can't be worked on yet; empty: it can
	Cell      cells.Spec
	Keys      []byte // RunnerConfig as JSON
	Functions map[string]cluster.Function
	// FunctionsRevision is the revision that Functions are as of.
	FunctionsRevision int64
}

// Config names what a runner has to know: its keys, limits and functions.
func (w Want) Config() string {
	h := sha256.New()
	h.Write(w.Keys)
	for _, name := range slices.Sorted(maps.Keys(w.Functions)) {
		fmt.Fprintf(h, "\n%s %s", name, w.Functions[name].Version)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// names returns the names of an instance's four units, as in [Want].Units.
func unitNames(instance string) ([]string, error) {
	tenant, n, err := cluster.ParseInstance(instance)
	if err != nil {
		return nil, err
	}
	return []string{
		cluster.TenantSlice(tenant), cluster.InstanceSlice(tenant, n),
		cluster.RunnerSocket(tenant, n), cluster.RunnerService(tenant, n),
	}, nil
}

// desired puts together what the book holds: anew for tenants of which
// something has changed. Every placed instance is in it, with Missing saying
// what keeps it from being worked on. It is the caller's until the next call.
func (b *book) desired(paths cluster.Paths) Desired {
	for instance, p := range b.placements {
		if _, done := b.wants[instance]; done && !b.stale[p.value.Tenant] {
			continue
		}
		w := Want{Placement: p.value, Revision: p.revision, Missing: "the tenant's functions are not delivered yet"}
		if d := b.deliveries[p.value.Tenant]; d != nil && d.manifest != nil {
			w.Functions, w.FunctionsRevision = d.functions()
			w.Missing = ""
		}
		if err := b.complete(&w, paths); err != nil {
			w.Missing = err.Error()
		}
		b.wants[instance] = w
	}
	clear(b.stale)
	return b.wants
}

func (b *book) complete(w *Want, paths cluster.Paths) error {
	p := w.Placement
	names, err := unitNames(p.Instance)
	if err != nil {
		return err
	}
	for _, name := range names {
		u, ok := b.units[name]
		if !ok {
			return fmt.Errorf("unit %s is not written yet", name)
		}
		w.Units = append(w.Units, units.Unit{Name: name, Text: u.value})
	}
	w.Cell = cellSpec(paths, p)
	w.Keys, err = json.Marshal(cluster.RunnerConfig{Tenant: p.Tenant, Instance: p.Instance, Keys: p.Keys, Limits: p.Limits, Sleep: p.Sleep})
	return err
}

// warm says whether the instance is to have a cell although nobody asks.
func (w Want) warm() bool { return w.Placement.Sleep.Dormant == 0 }
