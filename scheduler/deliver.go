package scheduler

import (
	"maps"
	"path"
	"slices"
	"strconv"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// deliver brings the copies of the tenant's functions in line: every host that
// has a placement of it gets all, any other none.
func (c *change) deliver() {
	t := c.tenant
	hosts := map[string]bool{}
	for _, p := range t.placed {
		hosts[p.host] = true
	}
	for _, host := range sorted(hosts) {
		c.deliverTo(host, t.delivery(host))
	}
	for _, host := range sorted(t.delivered) {
		if d := t.delivered[host]; !hosts[host] {
			c.inGroups(c.withdrawn(host, d, d.copies))
			delete(t.delivered, host)
		}
	}
	for _, f := range t.functions {
		f.value, f.loaded = nil, false
	}
}

// deliverTo writes what a host lacks. Copies and manifest are one group if
// they fit; else the copies come first, and the manifest once they are there.
func (c *change) deliverTo(host string, d *delivery) {
	copies, all := c.copies(host, d)
	if !all {
		c.singly(copies)
		return
	}
	next := c.manifest(d)
	if next == nil && len(copies) == 0 {
		stale := c.stale(host, d)
		d.forget(stale)
		c.inGroups(stale)
		return
	}
	if next == nil { // what was copied anew had been spoilt
		next = d.manifest
	}
	put := etcd.Put(cluster.ManifestKey(host, c.tenant.name), marshalled(next))
	group := append(copies, put)
	if !etcd.Fits(group) {
		c.singly(copies)
		c.mark(c.tenant.name)
		return
	}
	d.manifest, d.revision = next, unseen
	stale := c.stale(host, d)
	if both := append(group, stale...); etcd.Fits(both) {
		d.forget(stale)
		group = both
	} else {
		c.mark(c.tenant.name) // they go once nothing names them any more
	}
	c.groups = append(c.groups, group)
}

// copies returns writes of those copies that a host lacks and whose functions
// are loaded; all says that it lacks no others.
func (c *change) copies(host string, d *delivery) (ops []etcd.Op, all bool) {
	all = true
	for _, name := range sorted(c.tenant.functions) {
		f := c.tenant.functions[name]
		switch {
		case d.source(name) == f.revision || f.wrong != "" || f.waits != "":
		case !f.loaded:
			all = false
			c.request(name, f)
		case f.check(name):
			value := copyOf(f, c.sources(f, host))
			d.put(name, copied{revision: unseen, source: f.revision, sum: sum(value)})
			ops = append(ops, etcd.Put(cluster.CopyKey(host, c.tenant.name, name), value))
		}
	}
	return ops, all
}

// maxSources is how many hosts a copy names as sources of a set of modules.
const maxSources = 8

// sources are hosts that may have the set of modules that a function names, with
// the addresses of their proxies: builders, and those that have the tenant placed.
// What comes from them is checked, so it need not be certain, nor they be trusted.
func (c *change) sources(f *function, to string) map[string]string {
	if !f.set {
		return nil
	}
	var near, builders []string
	for _, p := range c.tenant.placed {
		near = append(near, p.host)
	}
	for name, h := range c.hosts {
		if h.presence != nil && h.presence.Archives {
			builders = append(builders, name)
		}
	}
	slices.Sort(near)
	slices.Sort(builders)
	from := map[string]string{}
	for _, name := range append(builders, near...) {
		if h := c.hosts[name]; h != nil && h.presence != nil && h.address != "" && name != to && len(from) < maxSources {
			from[name] = h.address
		}
	}
	return from
}

// copyOf is the JSON of a cluster.Copy, without reading the function again.
func copyOf(f *function, from map[string]string) []byte {
	value := strconv.AppendInt([]byte(`{"source":`), f.revision, 10)
	if len(from) > 0 {
		value = append(append(value, `,"from":`...), marshalled(from)...)
	}
	value = append(value, `,"function":`...)
	return append(append(value, f.value...), '}')
}

// manifest is what a host's manifest is to say, when it doesn't. The removal
// of a function that the host never had is news as well: someone waits for it.
func (c *change) manifest(d *delivery) *cluster.Manifest {
	t, has := c.tenant, map[string]int64{}
	for name := range t.functions {
		if source := d.source(name); source != 0 {
			has[name] = source
		}
	}
	if m := d.manifest; m != nil && m.Revision >= t.removed && maps.Equal(m.Functions, has) {
		return nil
	}
	return &cluster.Manifest{Revision: c.revision, Functions: has}
}

// stale returns the removal of copies of functions that are no more.
func (c *change) stale(host string, d *delivery) (ops []etcd.Op) {
	for _, name := range sorted(d.copies) {
		if c.tenant.functions[name] == nil {
			ops = append(ops, etcd.Delete(cluster.CopyKey(host, c.tenant.name, name)))
		}
	}
	return ops
}

// forget takes removed copies out of the model.
func (d *delivery) forget(removed []etcd.Op) {
	for _, op := range removed {
		delete(d.copies, path.Base(op.Key))
	}
}

// withdrawn removes all that a host has of the tenant's functions.
func (c *change) withdrawn(host string, d *delivery, copies map[string]copied) (ops []etcd.Op) {
	if d.revision != 0 {
		ops = append(ops, etcd.Delete(cluster.ManifestKey(host, c.tenant.name)))
	}
	for _, name := range sorted(copies) {
		ops = append(ops, etcd.Delete(cluster.CopyKey(host, c.tenant.name, name)))
	}
	return ops
}

// singly has each write be a group.
func (c *change) singly(ops []etcd.Op) {
	for _, op := range ops {
		c.groups = append(c.groups, []etcd.Op{op})
	}
}

// inGroups has small writes be as few groups as fit.
func (c *change) inGroups(ops []etcd.Op) {
	const most = 100
	for group := range slices.Chunk(ops, most) {
		c.groups = append(c.groups, group)
	}
}

// request has a function's value read; until then nothing is known of it.
func (c *change) request(name string, f *function) {
	if !f.awaited {
		c.reading = true
		c.unread[cluster.FunctionKey(c.tenant.name, name)] = reading{c.tenant.name, name, f.revision}
	}
}
