package sim

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"bulkhead/cluster"
	"bulkhead/internal/etcd/etcdmem"
)

// settling is how long after a change of one of its instances a tenant's
// placements may still be decided by what was before.
const settling = 5 * time.Second

// checker watches every commit and knows what may never be.
type checker struct {
	w       *world
	mu      sync.Mutex
	tenants map[string]*seen
	hosts   map[string]cluster.Host // present
	used    map[string]cluster.Resources
	load    map[string]float64 // by tenant: requests in flight
	moved   int                // placements made
	turns   turns
	done    int      // cycles that ended
	changes []string // that the audit log has to tell of
	wrong   []string
}

// seen is what etcd says of a tenant.
type seen struct {
	spec    *cluster.Spec                // in force
	placed  map[string]cluster.Placement // by host/instance
	routed  map[string]cluster.Route
	phases  map[string]cluster.Phase
	changed time.Time // when one of its instances last changed
	below   time.Time // since when fewer serve than must; zero: enough do
}

func newChecker(w *world) *checker {
	return &checker{w: w, tenants: map[string]*seen{}, hosts: map[string]cluster.Host{}, used: map[string]cluster.Resources{}, load: map[string]float64{}, turns: turns{cycles: map[string]cluster.Cycle{}, rollouts: map[string]cluster.Rollout{}}}
}

// fail notes what is wrong. The first few are enough.
func (c *checker) fail(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed(format, args...)
}

func (c *checker) failed(format string, args ...any) {
	if len(c.wrong) < 5 {
		c.wrong = append(c.wrong, fmt.Sprintf("%9.3f s  ", time.Since(c.w.begun).Seconds())+fmt.Sprintf(format, args...))
	}
}

func (c *checker) tenant(name string) *seen {
	t := c.tenants[name]
	if t == nil {
		t = &seen{placed: map[string]cluster.Placement{}, routed: map[string]cluster.Route{}, phases: map[string]cluster.Phase{}}
		c.tenants[name] = t
	}
	return t
}

// need is how many instances must serve.
func (t *seen) need() int {
	if t.spec == nil {
		return 0
	}
	return max(t.spec.Replicas.Min, 1)
}

// serving counts instances that requests reach: placed, routed, and said to
// serve by a host that is there.
func (c *checker) serving(t *seen) (n int) {
	for at, phase := range t.phases {
		host, _, _ := strings.Cut(at, "/")
		_, placed := t.placed[at]
		_, routed := t.routed[at]
		if _, present := c.hosts[host]; present && placed && routed && phase.Serves() {
			n++
		}
	}
	return n
}

// commit takes a transaction into account, and looks at what it does.
func (c *checker) commit(_ *etcdmem.Snapshot, commit etcdmem.Commit) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var removed []string // host/instance
	for _, e := range commit.Events {
		c.audited(e, commit.Revision)
		if at := c.event(e, commit.Revision); at != "" {
			removed = append(removed, at)
		}
	}
	for _, at := range removed {
		c.mayGo(at, commit.Revision)
	}
	for _, e := range commit.Events {
		if rest, ok := strings.CutPrefix(string(e.Kv.Key), cluster.RoutesPrefix); ok {
			c.oneHost(rest, commit.Revision)
		}
	}
}

// event takes one change in. It returns which serving placement it removed.
func (c *checker) event(e *mvccpb.Event, revision int64) (removed string) {
	gone := e.Type == mvccpb.Event_DELETE
	kind, rest, _ := strings.Cut(strings.TrimPrefix(string(e.Kv.Key), cluster.Root), "/")
	host, instance, _ := strings.Cut(rest, "/")
	tenant, _, err := cluster.ParseInstance(instance)
	switch kind {
	case "rollouts", "cycles":
		c.turn(kind, rest, e, gone, revision)
	case "applied":
		t := c.tenant(rest)
		if t.spec = nil; !gone {
			if spec, problems := cluster.DecodeSpec(rest, e.Kv.Value); cluster.Invalid(problems) == nil {
				t.spec = &spec
			}
		}
	case "hosts":
		var h cluster.Host
		if delete(c.hosts, rest); !gone && json.Unmarshal(e.Kv.Value, &h) == nil {
			c.hosts[rest] = h
		}
		for _, t := range c.tenants { // those on it have changed
			for at := range t.placed {
				if strings.HasPrefix(at, rest+"/") {
					t.changed = time.Now()
				}
			}
		}
	case "instances":
		t := c.tenant(tenant)
		var i cluster.Instance
		if delete(t.phases, rest); !gone && json.Unmarshal(e.Kv.Value, &i) == nil {
			t.phases[rest] = i.Phase
		}
		t.changed = time.Now()
	case "routes":
		t := c.tenant(tenant)
		var r cluster.Route
		if delete(t.routed, rest); !gone {
			if json.Unmarshal(e.Kv.Value, &r) != nil || r.Host != host || r.Instance != instance || r.Tenant != tenant {
				c.failed("revision %d: %s holds %s", revision, e.Kv.Key, e.Kv.Value)
			}
			t.routed[rest] = r
		}
	case "placements":
		if err != nil {
			c.failed("revision %d: a placement under %s", revision, e.Kv.Key)
			return ""
		}
		return c.placement(c.tenant(tenant), rest, host, e, gone, revision)
	}
	return ""
}

func (c *checker) placement(t *seen, at, host string, e *mvccpb.Event, gone bool, revision int64) (removed string) {
	old, was := t.placed[at]
	if was {
		c.use(host, old, -1)
	}
	if delete(t.placed, at); gone {
		return at
	}
	var p cluster.Placement
	if err := json.Unmarshal(e.Kv.Value, &p); err != nil {
		c.failed("revision %d: %s cannot be read: %v", revision, e.Kv.Key, err)
	}
	t.placed[at] = p
	c.use(host, p, 1)
	if !was {
		c.moved++
	}
	if h, present := c.hosts[host]; present && (c.used[host].Memory > h.Capacity.Memory || c.used[host].CPU > h.Capacity.CPU+1e-6) {
		c.failed("revision %d: host %s has promised %v and has %v, with %s", revision, host, c.used[host], h.Capacity, at)
	}
	return ""
}

// use counts what instances that never sleep may use.
func (c *checker) use(host string, p cluster.Placement, sign int) {
	if p.Sleep.Dormant > 0 {
		return
	}
	u := c.used[host]
	u.Memory += p.Resources.Memory * cluster.Bytes(sign)
	u.CPU += p.Resources.CPU * float64(sign)
	c.used[host] = u
}

// mayGo fails when a placement was removed that served and was needed.
func (c *checker) mayGo(at string, revision int64) {
	host, instance, _ := strings.Cut(at, "/")
	tenant, _, _ := cluster.ParseInstance(instance)
	t := c.tenant(tenant)
	_, present := c.hosts[host]
	if !present || !t.phases[at].Serves() || t.spec == nil || time.Since(t.changed) < settling {
		return
	}
	if left := c.serving(t); left < t.need() {
		c.failed("revision %d: %s was removed from %s while it served: %d are left of at least %d", revision, instance, host, left, t.need())
	}
}

// oneHost fails when an instance is routed to two hosts.
func (c *checker) oneHost(at string, revision int64) {
	_, instance, _ := strings.Cut(at, "/")
	tenant, _, _ := cluster.ParseInstance(instance)
	var hosts []string
	for other, r := range c.tenant(tenant).routed {
		if r.Instance == instance {
			hosts = append(hosts, other)
		}
	}
	if len(hosts) > 1 {
		c.failed("revision %d: %s has routes to %v", revision, instance, hosts)
	}
}

// moves is how many placements have been made.
func (c *checker) moves() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.moved
}

// share is what each serving instance of a tenant has of its load.
func (c *checker) share(tenant string) float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.load[tenant] == 0 {
		return 0
	}
	return c.load[tenant] / float64(max(c.serving(c.tenant(tenant)), 1))
}

func (c *checker) setLoad(tenant string, inFlight float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.load[tenant] = inFlight
}
