package scheduler

import (
	"hash/maphash"
	"maps"
	"math"
	"slices"
	"time"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
	"bulkhead/internal/sealed"
)

// snapshot is the cluster as the watches have shown it, with what we have
// planned since laid over. It is the planner's only input but the time.
type snapshot struct {
	revision int64
	tenants  map[string]*tenant
	hosts    map[string]*host
	index    *index // nil: to be made again
	dirty    map[string]bool
	waiting  map[string]bool // tenants with too few placements
	// full are demands that no host can meet, and why, until room is made:
	// those that wait often want the same.
	full map[string]string
	// early are specs decoded before their turn, while a list is taken in.
	early   map[string]*specRecord
	brake   brake
	losses  losses
	active  map[string]bool    // tenants that have something to do, or had
	moves   map[string]move    // placements that are moved to even hosts out, by host/instance
	evened  time.Time          // when that was last looked at
	evening bool               // hosts are being evened out
	outbox  map[string]etcd.Op // to be written, of no tenant
	// timed are tenants for which time alone changes something.
	timed  map[string]bool
	unread map[string]reading // functions' values that are needed, by key
	rolls  rolls
	lock   *sealed.Lock     // what secrets are sealed with; nil: they stay in plain text
	plain  map[string]plain // those that are to be sealed, by key
}

func newSnapshot() *snapshot {
	return &snapshot{
		tenants: map[string]*tenant{}, hosts: map[string]*host{},
		dirty: map[string]bool{}, waiting: map[string]bool{}, full: map[string]string{},
		brake: brake{gone: map[string]bool{}}, timed: map[string]bool{}, outbox: map[string]etcd.Op{}, moves: map[string]move{}, active: map[string]bool{}, unread: map[string]reading{},
		rolls: newRolls(), plain: map[string]plain{},
	}
}

// tenant is all that is known of a tenant.
type tenant struct {
	name     string
	observed *specRecord // as the operator wrote it; nil: there is none
	applied  *specRecord // the last valid one; its revision is not that of the spec
	status   *cluster.Status
	placed   map[string]*placed        // by host/instance
	seen     map[string]sight          // by host/instance
	units    map[string]uint64         // by host/unit: a hash of its text
	routes   map[string]*cluster.Route // by host/instance
	// functions are the tenant's own, by name; nil: it has none. delivered is
	// what hosts have of them.
	functions map[string]*function
	delivered map[string]*delivery
	demand    *demand              // nil: it has had nothing to do
	scale     int                  // instances that it calls for; 0: no more than the least
	scaled    string               // why so many
	removed   int64                // revision at which one was last removed, as we saw it
	released  bool                 // its removal has been confirmed
	class     class                // as the brake has counted it
	revoked   []cluster.Revocation // tokens that are refused
	unrevoked string               // why revoked is not as was written; "": it is
	sealed    int64                // revision at which its spec, written in plain text, was sealed
	// unsealable says why its spec can't be sealed; "": it can.
	unsealable string
}

// specRecord is a spec, decoded.
type specRecord struct {
	raw      string
	revision int64
	spec     cluster.Spec
	problems []cluster.Problem
	err      error // not nil: not valid
}

// again decodes a spec, unless r is the same text decoded before.
func (r *specRecord) again(tenant string, e etcd.Event) *specRecord {
	if r != nil && r.raw == string(e.Value) {
		same := *r
		same.revision = e.Revision
		return &same
	}
	spec, problems := cluster.DecodeSpec(tenant, e.Value)
	return &specRecord{string(e.Value), e.Revision, spec, problems, cluster.Invalid(problems)}
}

// placed is a placement on a host.
type placed struct {
	host string
	cluster.Placement
	json      []byte    // until it is written
	sum       uint64    // hash of its JSON
	created   int64     // revision at which it came here; unseen until it comes back to us
	leaving   time.Time // since when its route says so; zero: it doesn't
	rendering rendering
}

// sight is what an agent reported of an instance.
type sight struct {
	serves    bool
	placement int64 // that it is of
}

// unseen is later than any revision.
const unseen = math.MaxInt64

// host is a host that is present, or of which something else is known.
type host struct {
	name      string
	claim     *cluster.Host      // its presence as it has it; nil: it has none
	member    bool               // it has a member of etcd, as last known
	inventory *cluster.Inventory // what the operator knows of it; nil: nothing
	presence  *cluster.Host      // what it is taken for, from both; nil: it is gone
	address   string             // of its proxy, the last known
	gone      time.Time          // since when it has no presence, as this leader saw it
	back      time.Time          // since when it has one
	off       bool               // it has been seen to be written off
	seen      bool               // it had a presence
	confirmed bool               // someone said that it is dead
	losses    []time.Time        // when it lost its presence lately
	odd       bool               // its image or version is not the most common one
	distrust  *cluster.Distrust  // nil: it is trusted
	strikes   int                // how often it was distrusted
	trusted   time.Time          // since when it is again
	cordon    *string            // the reason; nil: not cordoned
	drain     *string            // the reason; nil: not drained
	used      cluster.Resources
	placed    map[string]*placed // by instance
	busy      map[string]float64 // requests in flight, by instance; those not in it have none
	failed    *int64             // requests that failed at its proxy, as it counts them; nil: it doesn't say
}

func (h *host) empty() bool {
	return h.claim == nil && h.inventory == nil && h.cordon == nil && h.drain == nil && len(h.placed) == 0 &&
		h.distrust == nil && len(h.losses) == 0 && len(h.busy) == 0 && h.failed == nil && (h.off || !h.seen)
}

// drop forgets a host of which nothing is left.
func (s *snapshot) drop(h *host) {
	if h.empty() {
		delete(s.hosts, h.name)
		s.index = nil
	}
}

// writtenOff says whether the host has been without presence for the grace.
func (h *host) writtenOff(now time.Time, grace time.Duration) bool {
	return h.presence == nil && !now.Before(h.gone.Add(grace))
}

func (s *snapshot) tenant(name string) *tenant {
	t := s.tenants[name]
	if t == nil {
		t = &tenant{
			name: name, placed: map[string]*placed{},
			seen: map[string]sight{}, units: map[string]uint64{},
			routes: map[string]*cluster.Route{}, delivered: map[string]*delivery{},
		}
		s.tenants[name] = t
	}
	return t
}

func (s *snapshot) host(name string, now time.Time) *host {
	h := s.hosts[name]
	if h == nil {
		h = &host{name: name, gone: now, placed: map[string]*placed{}}
		s.hosts[name] = h
	}
	return h
}

// work says whether there may be something to plan.
func (s *snapshot) work() bool {
	return len(s.dirty)+len(s.outbox)+len(s.toSeal()) > 0 || s.rolls.dirty
}

// mark has a tenant planned.
func (s *snapshot) mark(tenant string) { s.dirty[tenant] = true }

// markHost has all tenants of a host planned, and those that wait for one.
func (s *snapshot) markHost(h *host) {
	for _, p := range h.placed {
		s.mark(p.Tenant)
	}
	s.markWaiting()
}

func (s *snapshot) markWaiting() {
	for name := range s.waiting {
		s.mark(name)
	}
}

// put lays a placement over the model and reserves what it needs.
func (s *snapshot) put(p *placed, now time.Time) {
	s.remove(p.host, p.Tenant, p.Instance)
	h := s.host(p.host, now)
	h.placed[p.Instance] = p
	h.used = add(h.used, p.reserved(), 1)
	s.tenant(p.Tenant).placed[p.host+"/"+p.Instance] = p
	if h.busy[p.Instance] > 0 {
		s.active[p.Tenant] = true
	}
}

// remove takes a placement out of the model, if it is there.
func (s *snapshot) remove(hostName, tenantName, instance string) {
	h := s.hosts[hostName]
	if h == nil || h.placed[instance] == nil {
		return
	}
	h.used = add(h.used, h.placed[instance].reserved(), -1)
	clear(s.full)
	delete(h.placed, instance)
	delete(s.tenant(tenantName).placed, hostName+"/"+instance)
	s.drop(h)
}

// sleepers is how many instances that may go dormant share what one of them
// may use when it is awake: few are at a time. What keeps a host from waking
// more than fit is its agent.
const sleepers = 32

// reserved is what an instance counts for on its host.
func reserved(r cluster.Resources, sleep cluster.Sleep) cluster.Resources {
	if sleep.Dormant > 0 {
		r.Memory, r.CPU, r.Pids = r.Memory/sleepers, r.CPU/sleepers, (r.Pids+sleepers-1)/sleepers
	}
	return r
}

func (p *placed) reserved() cluster.Resources { return reserved(p.Resources, p.Sleep) }

func add(a, b cluster.Resources, sign int) cluster.Resources {
	a.Memory += b.Memory * cluster.Bytes(sign)
	a.CPU += b.CPU * float64(sign)
	a.Pids += b.Pids * sign
	return a
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

var seed = maphash.MakeSeed()

// sum names a text, to see whether what comes back is what we wrote.
func sum(text []byte) uint64 { return maphash.Bytes(seed, text) }
