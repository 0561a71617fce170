package scheduler

import (
	"fmt"
	"hash/maphash"
	"slices"
	"strings"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
	"bulkhead/units"
)

// rendering remembers the hashes of a placement's units, which only its host
// and its resources decide; the texts of all would fill the memory.
type rendering struct {
	host  *cluster.Host
	sums  []unitSum
	texts []units.Unit // until they are written, or found to be there
}

type unitSum struct {
	name string
	sum  uint64
}

// render makes sure that the placement's rendering is that for its host as it
// is now, and says why there is none.
func (c *change) render(p *placed) error {
	h := c.hosts[p.host]
	if h == nil || h.presence == nil {
		return fmt.Errorf("host %s is gone", p.host)
	}
	if p.rendering.host == h.presence {
		return nil
	}
	us, err := units.Render(*h.presence, p.Placement)
	if err != nil {
		return err
	}
	r := rendering{host: h.presence, texts: us}
	for _, u := range us {
		r.sums = append(r.sums, unitSum{u.Name, maphash.String(seed, u.Text)})
	}
	p.rendering = r
	return nil
}

// done turns what was decided into groups of writes. A placement, its units
// and its route are one group, so that nobody finds the one without the other.
func (c *change) done() [][]etcd.Op {
	groups := c.groups
	needed := map[string]bool{} // host/unit
	for _, p := range c.ordered() {
		group := append(c.unitPuts(p, needed), c.routePuts(p)...)
		if p.json != nil {
			group = append(group, etcd.Put(cluster.PlacementKey(p.host, p.Instance), p.json))
			p.json = nil
		}
		groups = append(groups, group)
	}
	for _, p := range c.deletes {
		group := []etcd.Op{etcd.Delete(cluster.PlacementKey(p.host, p.Instance))}
		group = append(group, c.routeDeletes(p.host, p.Instance)...)
		groups = append(groups, c.unitDeletes(group, p.host, instanceUnits(p.Instance), needed))
	}
	var stray []string // what no placement accounts for
	for key := range c.tenant.units {
		if !needed[key] {
			stray = append(stray, key)
		}
	}
	slices.Sort(stray)
	for _, key := range stray {
		host, name, _ := strings.Cut(key, "/")
		groups = append(groups, c.unitDeletes(nil, host, []string{name}, needed))
	}
	groups = append(append(groups, c.strayRoutes()...), c.other)
	c.forget()
	return slices.DeleteFunc(groups, func(g []etcd.Op) bool { return len(g) == 0 })
}

// unitPuts returns writes for those units of a placement that etcd doesn't
// hold as they should be. Units on a host that is gone stay as they are.
func (c *change) unitPuts(p *placed, needed map[string]bool) (ops []etcd.Op) {
	if c.render(p) != nil {
		for _, name := range instanceUnits(p.Instance) {
			needed[p.host+"/"+name] = true
		}
		return nil
	}
	texts := p.rendering.texts
	p.rendering.texts = nil
	for i, u := range p.rendering.sums {
		key := p.host + "/" + u.name
		if got, there := c.tenant.units[key]; needed[key] || there && got == u.sum {
			needed[key] = true
			continue
		}
		if texts == nil { // they were written once, and someone changed them
			texts, _ = units.Render(*p.rendering.host, p.Placement)
		}
		needed[key], c.tenant.units[key] = true, u.sum
		if ops == nil {
			ops = make([]etcd.Op, 0, len(p.rendering.sums)+2) // route and placement follow
		}
		ops = append(ops, etcd.Put(cluster.UnitKey(p.host, u.name), []byte(texts[i].Text)))
	}
	return ops
}

// unitDeletes adds the removal of units that are there and not needed.
func (c *change) unitDeletes(ops []etcd.Op, host string, names []string, needed map[string]bool) []etcd.Op {
	for _, name := range names {
		key := host + "/" + name
		if _, there := c.tenant.units[key]; there && !needed[key] {
			delete(c.tenant.units, key)
			ops = append(ops, etcd.Delete(cluster.UnitKey(host, name)))
		}
	}
	return ops
}

// instanceUnits are the names of an instance's units, as units.Render has
// them.
func instanceUnits(instance string) []string {
	tenant, n, err := cluster.ParseInstance(instance)
	if err != nil {
		return nil
	}
	return []string{
		cluster.TenantSlice(tenant), cluster.InstanceSlice(tenant, n),
		cluster.RunnerSocket(tenant, n), cluster.RunnerService(tenant, n),
	}
}

// forget drops a tenant of which nothing is left.
func (c *change) forget() {
	t := c.tenant
	if t.observed == nil && t.applied == nil && t.status == nil && len(t.placed) == 0 && len(t.units) == 0 && len(t.seen) == 0 &&
		len(t.routes) == 0 && len(t.functions) == 0 && len(t.delivered) == 0 && t.revoked == nil {
		delete(c.tenants, t.name)
	}
}
