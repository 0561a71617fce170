package sim

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
	"bulkhead/internal/etcd/etcdmem"
)

// host is a simulated host. What runs on it outlives its agent, and ends with
// its power.
type host struct {
	w        *world
	name     string
	labels   map[string]string
	capacity cluster.Resources
	boots    int

	conn    *etcdmem.Conn
	cancel  context.CancelFunc // of the agent; nil: it does not run
	done    chan struct{}
	cut     bool
	marked  string // cordoned, drained or ""
	member  bool   // of etcd
	crashed bool   // it has lost power

	soft software // what it runs; its agent's and ours

	mu      sync.Mutex
	running map[string]*life
}

// life is an instance on a host.
type life struct {
	phase cluster.Phase
	due   time.Time // when its phase ends; zero: not by itself
}

func newHost(w *world, name string, labels map[string]string) *host {
	return &host{
		w: w, name: name, labels: labels, running: map[string]*life{},
		capacity: cluster.Resources{Memory: 8 << 30, CPU: 16, Pids: 8192},
	}
}

// boot starts the host's agent after power was off.
func (h *host) boot() {
	h.boots++
	h.mu.Lock()
	h.running = map[string]*life{}
	h.mu.Unlock()
	h.startAgent()
}

func (h *host) startAgent() {
	if h.cancel != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	conn, cli := h.w.store.Connect(context.Background(), h.w.noise.faults())
	if h.cut {
		conn.Cut()
	}
	h.conn, h.cancel, h.done = conn, cancel, make(chan struct{})
	go func(done chan struct{}) {
		defer close(done)
		defer cli.Close()
		a := &agent{host: h, cli: cli, presence: etcd.NewPresence(cli, 10*time.Second, cluster.HostKey(h.name)), told: map[string]bool{}}
		a.run(ctx, etcd.Watch(ctx, cli, cluster.HostPlacements(h.name), cluster.HostUnits(h.name), cluster.HostManifests(h.name), cluster.HostCopies(h.name), cluster.OrderKey(h.name)))
		a.presence.Close()
	}(h.done)
}

// killAgent leaves what runs alone.
func (h *host) killAgent() {
	if h.cancel == nil {
		return
	}
	h.cancel()
	<-h.done
	h.cancel = nil
}

// off takes the power away.
func (h *host) off() {
	h.killAgent()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.running = map[string]*life{}
}

// agent is a host's agent: the model of the real one.
type agent struct {
	*host
	cli        *clientv3.Client
	presence   *etcd.Presence
	since      time.Time
	order      cluster.Order
	placements map[string]etcd.Event // by instance
	parsed     map[string]cluster.Placement
	units      map[string]bool
	manifests  map[string]cluster.Manifest // by tenant
	told       map[string]bool             // instances that are reported
}

func (a *agent) run(ctx context.Context, batches <-chan etcd.Batch) {
	a.since = time.Now().UTC()
	a.present()
	due := time.NewTimer(time.Hour)
	defer due.Stop()
	loads := time.NewTicker(5 * time.Second)
	defer loads.Stop()
	listed := false
	for {
		select {
		case <-ctx.Done():
			for range batches {
			}
			return
		case b := <-batches:
			a.take(b)
			listed = true
		case <-loads.C:
			a.tellLoad()
			continue
		case <-due.C:
		}
		if listed {
			due.Reset(min(a.reconcile(time.Now()), a.obey(ctx, time.Now())))
		}
	}
}

func (a *agent) take(b etcd.Batch) {
	if b.Snapshot {
		a.placements, a.parsed = map[string]etcd.Event{}, map[string]cluster.Placement{}
		a.units, a.manifests = map[string]bool{}, map[string]cluster.Manifest{}
		a.order = cluster.Order{}
	}
	for _, e := range b.Events {
		kind, rest, _ := strings.Cut(strings.TrimPrefix(e.Key, cluster.Root), "/")
		name := strings.TrimPrefix(rest, a.name+"/")
		switch kind {
		case "placements":
			delete(a.placements, name)
			var p cluster.Placement
			if !e.Deleted && json.Unmarshal(e.Value, &p) == nil {
				a.placements[name], a.parsed[name] = e, p
			}
		case "orders":
			if rest != a.name { // a name that begins with ours
				continue
			}
			if a.order = (cluster.Order{}); !e.Deleted {
				_ = json.Unmarshal(e.Value, &a.order)
			}
		case "units":
			if a.units[name] = true; e.Deleted {
				delete(a.units, name)
			}
		case "manifests":
			var m cluster.Manifest
			if delete(a.manifests, name); !e.Deleted && json.Unmarshal(e.Value, &m) == nil {
				a.manifests[name] = m
			}
		}
	}
}

// reconcile moves every instance on, and returns in how long to look again.
func (a *agent) reconcile(now time.Time) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	next := now.Add(time.Minute)
	for i := range a.placements {
		l := a.running[i]
		if l == nil || l.phase == cluster.Stopping {
			l = &life{phase: cluster.Starting, due: now.Add(a.w.noise.between(50*time.Millisecond, 3*time.Second))}
			a.running[i] = l
		}
		if l.phase == cluster.Starting && !now.Before(l.due) && a.complete(i) {
			l.phase, l.due = cluster.Ready, time.Time{}
			if a.parsed[i].Sleep.Dormant > 0 {
				l.phase = cluster.Dormant
			}
		}
	}
	for i, l := range a.running {
		if _, placed := a.placements[i]; !placed && l.phase != cluster.Stopping {
			l.phase, l.due = cluster.Stopping, now.Add(a.w.noise.between(0, 5*time.Second))
		}
		if l.phase == cluster.Stopping && !now.Before(l.due) {
			delete(a.running, i)
			continue
		}
		if !l.due.IsZero() && l.due.After(now) && l.due.Before(next) {
			next = l.due
		}
	}
	a.report()
	return max(next.Sub(now), time.Millisecond)
}

// complete says whether all that belongs to an instance has come.
func (a *agent) complete(instance string) bool {
	tenant, n, err := cluster.ParseInstance(instance)
	_, delivered := a.manifests[tenant]
	return err == nil && delivered && a.units[cluster.TenantSlice(tenant)] && a.units[cluster.InstanceSlice(tenant, n)] &&
		a.units[cluster.RunnerSocket(tenant, n)] && a.units[cluster.RunnerService(tenant, n)]
}

func (a *agent) report() {
	for i, l := range a.running {
		tenant, _, _ := cluster.ParseInstance(i)
		value, _ := json.Marshal(cluster.Instance{
			Tenant: tenant, Instance: i, Host: a.name, Phase: l.phase, Placement: a.placements[i].Revision, Functions: a.manifests[tenant].Revision,
		})
		a.presence.Set(cluster.InstanceKey(a.name, i), value)
		a.told[i] = true
	}
	for i := range a.told {
		if a.running[i] == nil {
			a.presence.Remove(cluster.InstanceKey(a.name, i))
			delete(a.told, i)
		}
	}
}

// tellLoad reports this host's part of what its tenants have to do.
func (a *agent) tellLoad() {
	a.mu.Lock()
	load := cluster.Load{Instances: map[string]float64{}}
	for i, l := range a.running {
		tenant, _, _ := cluster.ParseInstance(i)
		if share := a.w.check.share(tenant); share > 0 && l.phase.Serves() {
			load.Instances[i] = share
		}
	}
	a.mu.Unlock()
	if len(load.Instances) == 0 {
		a.presence.Remove(cluster.LoadKey(a.name))
		return
	}
	value, _ := json.Marshal(load)
	a.presence.Set(cluster.LoadKey(a.name), value)
}
