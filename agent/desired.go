package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
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
	Awaits    string       // why one that isn't here at all is not begun yet; empty: it may be
	Behind    string       // why it is as was desired before; empty: it isn't
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
		fmt.Fprintf(h, "\n%s %s", name, mark(w.Functions[name]))
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
		last, done := b.wants[instance]
		if done && !b.stale[p.value.Tenant] {
			continue
		}
		w, err := b.want(p, paths)
		var locked *lockedError
		switch {
		case errors.As(err, &locked) && done && last.Missing == "":
			// What can't be opened is as good as invalid: the last good stays.
			w = last
			w.Behind = err.Error()
			b.log.Warn("the last good secrets stay in force", "instance", instance, "error", err)
		case err != nil:
			w.Missing = err.Error()
		}
		b.wants[instance] = w
	}
	clear(b.stale)
	return b.wants
}

// lockedError says that secrets can't be opened.
type lockedError struct{ error }

// want puts together what is desired of one instance.
func (b *book) want(p versioned[cluster.Placement], paths cluster.Paths) (Want, error) {
	w := Want{Placement: p.value, Revision: p.revision}
	d := b.deliveries[p.value.Tenant]
	if d == nil || d.manifest == nil {
		return w, errors.New("the tenant's functions are not delivered yet")
	}
	w.Functions, w.FunctionsRevision = d.functions(func(c copied) string { return b.whereModules(c, &w) })
	if err := b.secrets.functions(p.value.Tenant, w.Functions); err != nil {
		return w, &lockedError{err}
	}
	return w, b.complete(&w, paths)
}

// whereModules is where cells see the set that a function names; empty: it is not
// here yet. A host that is new to the tenant serves it once it has all, unless some
// can't be had.
func (b *book) whereModules(c copied, w *Want) string {
	if b.modules == nil {
		return ""
	}
	at, soon := b.modules.Where(c.function.Modules.Set, c.from)
	if at == "" && soon {
		w.Awaits = "npm modules of its functions are being fetched"
	}
	return at
}

// sets are those that functions of tenants placed here name.
func (b *book) sets() map[string]bool {
	all := map[string]bool{}
	for _, p := range b.placements {
		d := b.deliveries[p.value.Tenant]
		if d == nil {
			continue
		}
		for _, c := range d.copies {
			if m := c.function.Modules; m != nil && m.Set != "" {
				all[m.Set] = true
			}
		}
	}
	return all
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
	keys, err := b.secrets.keys(p.Tenant, p.Keys)
	if err != nil {
		return &lockedError{err}
	}
	w.Keys, err = json.Marshal(cluster.RunnerConfig{Tenant: p.Tenant, Instance: p.Instance, Keys: keys, Revoked: p.Revoked, Limits: p.Limits, Sleep: p.Sleep})
	return err
}

// warm says whether the instance is to have a cell although nobody asks.
func (w Want) warm() bool { return w.Placement.Sleep.Dormant == 0 }
