package sim

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"bulkhead/cluster"
	"bulkhead/internal/etcd/etcdmem"
)

// Bounds on how long things may take.
const (
	// patience is how long a tenant may have fewer instances serving than it
	// must, although there is room: a host's lease and grace, a scheduler's
	// lease, a start, and some of each again.
	patience = 5 * time.Minute
	// calm is how long a world may take to settle once nothing is broken; a
	// host that came and went often may be distrusted for a while.
	calm = 45 * time.Minute
	// evened is how long it may then take until hosts are used evenly, a few
	// moves at a time, and nothing is moved for a time of quiet.
	evened = 4 * time.Hour
	quiet  = 15 * time.Minute
)

// fine says whether nothing is wrong yet.
func (w *world) fine() bool {
	w.check.mu.Lock()
	defer w.check.mu.Unlock()
	return len(w.check.wrong) == 0
}

// lookAtAll notes tenants that have been below their minimum for too long
// although there was room, while someone could have seen to it.
func (w *world) lookAtAll() {
	able := !w.down
	thinks := false
	for _, b := range w.brains {
		thinks = thinks || b.cancel != nil
	}
	c := w.check
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for name, t := range c.tenants {
		if !able || !thinks || t.spec == nil || c.serving(t) >= t.need() || !w.hasRoom(t) {
			t.below = time.Time{}
			continue
		}
		if t.below.IsZero() {
			t.below = now
		}
		if now.Sub(t.below) > patience {
			c.failed("tenant %s has %d of %d instances serving since %s, although there is room: %s", name, c.serving(t), t.need(), now.Sub(t.below), describe(t))
		}
	}
}

// hasRoom says whether enough hosts that nothing ails could take an instance
// each.
func (w *world) hasRoom(t *seen) bool {
	for _, h := range w.hosts {
		_, present := w.check.hosts[h.name]
		_, cycling := w.check.turns.cycles[h.name]
		if h.cut || h.marked != "" || h.cancel == nil || h.crashed || cycling || !present {
			continue
		}
		fits := true
		for label, value := range t.spec.Placement.Labels {
			fits = fits && h.labels[label] == value
		}
		used := w.check.used[h.name]
		need := cluster.Bytes(t.need())
		if fits && used.Memory+need*t.spec.Resources.Memory <= h.capacity.Memory/2 && used.CPU+float64(need)*t.spec.Resources.CPU <= h.capacity.CPU/2 {
			return true
		}
	}
	return false
}

func describe(t *seen) string {
	var parts []string
	for at := range t.placed {
		_, routed := t.routed[at]
		parts = append(parts, fmt.Sprintf("%s %s (routed: %v)", at, t.phases[at], routed))
	}
	return strings.Join(parts, ", ")
}

// end waits until all is as it must be with nothing broken, and says what is
// not in the end; then, that nothing more is decided.
func (w *world) end() {
	// Rollouts go one after the other, and host by host.
	calm := calm + time.Duration(len(w.rollouts)*w.size.hosts)*time.Minute/2
	deadline := time.Now().Add(calm)
	var left []string
	for {
		if left = w.unsettled(); len(left) == 0 || !w.fine() || time.Now().After(deadline) {
			break
		}
		time.Sleep(10 * time.Second)
		w.switchOn()
		w.persist()
	}
	for _, l := range left {
		w.check.fail("%s after all was mended: %s", calm, l)
	}
	if len(left) > 0 {
		return
	}
	for waited, moved := time.Duration(0), -1; moved != w.check.moves(); waited += quiet {
		if waited > evened {
			w.check.fail("instances are still moved %s after all was as it must be", waited)
			return
		}
		moved = w.check.moves()
		time.Sleep(quiet)
	}
	for _, l := range w.unsettled() {
		w.check.fail("after hosts have been evened out: %s", l)
	}
}

// unsettled says what is not as it must be.
func (w *world) unsettled() (left []string) {
	w.store.Look(func(s *etcdmem.Snapshot) {
		w.check.mu.Lock()
		defer w.check.mu.Unlock()
		for name := range w.tenants {
			left = append(left, w.tenantUnsettled(s, name)...)
		}
		left = append(left, w.leftovers(s)...)
		left = append(left, w.rolloutsLeft(s)...)
		left = append(left, w.unaudited(s)...)
	})
	return left
}

func (w *world) tenantUnsettled(s *etcdmem.Snapshot, name string) (left []string) {
	t, want := w.check.tenant(name), w.tenants[name]
	must, may := max(want.spec.Replicas.Min, 1), want.spec.Replicas.Max
	if n := w.check.serving(t); n < must || len(t.placed) > may || n != len(t.placed) {
		left = append(left, fmt.Sprintf("tenant %s has %d placed and %d serving, want %d to %d: %s; status %s", name, len(t.placed), n, must, may, describe(t), s.Get(cluster.TenantStatusKey(name))))
	}
	for at, p := range t.placed {
		host, instance, _ := strings.Cut(at, "/")
		_, n, _ := cluster.ParseInstance(instance)
		if p.Resources != want.spec.Resources {
			left = append(left, fmt.Sprintf("%s has %v, want %v", at, p.Resources, want.spec.Resources))
		}
		if has := w.check.hosts[host].Image; p.Image != has {
			left = append(left, fmt.Sprintf("%s runs image %s, its host has %s", at, p.Image, has))
		}
		for _, unit := range []string{cluster.TenantSlice(name), cluster.InstanceSlice(name, n), cluster.RunnerSocket(name, n), cluster.RunnerService(name, n)} {
			if s.Get(cluster.UnitKey(host, unit)) == nil {
				left = append(left, fmt.Sprintf("host %s has no %s", host, unit))
			}
		}
		left = append(left, delivered(s, host, name, want.functions)...)
	}
	return left
}

// delivered says what a host lacks of a tenant's functions.
func delivered(s *etcdmem.Snapshot, host, tenant string, want map[string]int64) (left []string) {
	var m cluster.Manifest
	if err := json.Unmarshal(s.Get(cluster.ManifestKey(host, tenant)), &m); err != nil {
		return []string{fmt.Sprintf("host %s has no manifest of %s: %v", host, tenant, err)}
	}
	if len(m.Functions) != len(want) {
		left = append(left, fmt.Sprintf("host %s has %v of %s, want %v", host, m.Functions, tenant, want))
	}
	for function, revision := range want {
		var c cluster.Copy
		err := json.Unmarshal(s.Get(cluster.CopyKey(host, tenant, function)), &c)
		if err != nil || c.Source != revision || m.Functions[function] != revision {
			left = append(left, fmt.Sprintf("host %s has %s of %s as of %d, in its manifest %d, want %d (%v)", host, function, tenant, c.Source, m.Functions[function], revision, err))
		}
	}
	return left
}

// leftovers are keys that no placement accounts for.
func (w *world) leftovers(s *etcdmem.Snapshot) (left []string) {
	placed, on := map[string]bool{}, map[string]bool{}
	s.Each(cluster.PlacementsPrefix, func(key string, _ []byte) {
		host, instance, _ := strings.Cut(strings.TrimPrefix(key, cluster.PlacementsPrefix), "/")
		tenant, n, _ := cluster.ParseInstance(instance)
		placed["routes/"+host+"/"+instance] = true
		for _, unit := range []string{cluster.TenantSlice(tenant), cluster.InstanceSlice(tenant, n), cluster.RunnerSocket(tenant, n), cluster.RunnerService(tenant, n)} {
			placed["units/"+host+"/"+unit] = true
		}
		on[host+"/"+tenant] = true
		if w.tenants[tenant] == nil {
			left = append(left, key+" is of a tenant that is gone")
		}
		if s.Get(cluster.RouteKey(host, instance)) == nil {
			left = append(left, key+" has no route")
		}
	})
	for _, prefix := range []string{cluster.RoutesPrefix, cluster.UnitsPrefix} {
		s.Each(prefix, func(key string, _ []byte) {
			if !placed[strings.TrimPrefix(key, cluster.Root)] {
				left = append(left, key+" belongs to nothing")
			}
		})
	}
	for _, prefix := range []string{cluster.ManifestsPrefix, cluster.CopiesPrefix} {
		s.Each(prefix, func(key string, _ []byte) {
			parts := strings.SplitN(strings.TrimPrefix(key, prefix), "/", 3)
			if !on[parts[0]+"/"+parts[1]] {
				left = append(left, key+" belongs to nothing")
			}
		})
	}
	return left
}
