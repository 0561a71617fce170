package scheduler

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// leaveFor is how long a placement that serves is said to be leaving before
// it is removed, so that proxies have let go of it when its agent stops it.
const leaveFor = time.Second

func (s *snapshot) seeRoute(host, instance string, e etcd.Event) {
	name, _, err := cluster.ParseInstance(instance)
	if err != nil {
		return
	}
	t, key := s.tenant(name), host+"/"+instance
	was, there := t.routes[key]
	if e.Deleted {
		if delete(t.routes, key); there {
			s.mark(name)
		}
		return
	}
	var r cluster.Route
	_ = json.Unmarshal(e.Value, &r) // planning writes anew what it can't use
	if t.routes[key] = &r; !there || *was != r {
		s.mark(name)
	}
}

// routeOf is the route that a placement is to have. Of a host that is gone the
// last known address stays.
func (c *change) routeOf(p *placed) cluster.Route {
	h := c.hosts[p.host]
	r := cluster.Route{Tenant: p.Tenant, Instance: p.Instance, Host: p.host, Address: h.address, Leaving: !p.leaving.IsZero()}
	if was := c.tenant.routes[p.host+"/"+p.Instance]; r.Address == "" && h.presence == nil && was != nil {
		r.Address = was.Address
	}
	return r
}

// routePuts returns the write of a placement's route, if etcd doesn't hold it.
func (c *change) routePuts(p *placed) []etcd.Op {
	key, want := p.host+"/"+p.Instance, c.routeOf(p)
	if has, there := c.tenant.routes[key]; there && *has == want {
		return nil
	}
	c.tenant.routes[key] = &want
	return []etcd.Op{etcd.Put(cluster.RouteKey(p.host, p.Instance), marshalled(want))}
}

// routeDeletes returns the removal of a route, if there is one.
func (c *change) routeDeletes(host, instance string) []etcd.Op {
	key := host + "/" + instance
	if _, there := c.tenant.routes[key]; !there {
		return nil
	}
	delete(c.tenant.routes, key)
	return []etcd.Op{etcd.Delete(cluster.RouteKey(host, instance))}
}

// strayRoutes removes routes that no placement accounts for.
func (c *change) strayRoutes() (groups [][]etcd.Op) {
	if len(c.tenant.routes) == len(c.tenant.placed) {
		return nil // each placement has one by now
	}
	for _, key := range sorted(c.tenant.routes) {
		if host, instance, _ := strings.Cut(key, "/"); c.tenant.placed[key] == nil {
			groups = append(groups, c.routeDeletes(host, instance))
		}
	}
	return groups
}

// retire removes a placement. While it serves, its route says first, and for
// a moment, that it is leaving.
func (c *change) retire(p *placed) {
	if !c.tenant.ready(p) || !p.leaving.IsZero() && c.now.Sub(p.leaving) >= leaveFor {
		c.delete(p)
		return
	}
	if p.leaving.IsZero() {
		p.leaving = c.now
	}
	c.timed[p.Tenant] = true
}

// marshalled is the JSON of a value of ours, which has nothing that could
// fail.
func marshalled(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("scheduler: a %T of texts and numbers must marshal: %v", v, err))
	}
	return data
}
