package rollout

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// Decision is what is to be written next, in one transaction, and why. One
// without operations says that nothing is to be.
type Decision struct {
	Ops   []etcd.Op
	Why   string
	Alert bool // an operator should hear of it
}

func (d Decision) none() bool { return len(d.Ops) == 0 }

// machine is one look at the picture.
type machine struct {
	*Picture
	sights *Sights
	busy   string // a rollout whose turn it is
}

// Decide returns the next decision.
func Decide(p *Picture, s *Sights) Decision {
	m := &machine{Picture: p, sights: s}
	for _, look := range []func() Decision{m.strays, m.cycles, m.asks, m.rollouts, m.failures} {
		if d := look(); !d.none() {
			clear(s.asked)
			return d
		}
	}
	s.forget()
	return Decision{}
}

// mark begins the reason of every cordon and drain of ours.
const mark = "rollout: "

func reasonOf(c *cluster.Cycle) string {
	if c.For == cluster.FleetLock {
		return mark + "the host asked for its turn (FleetLock)"
	}
	return fmt.Sprintf("%s%s patches the host (%s)", mark, c.For, c.Kind)
}

func ours(reason *string) bool { return reason != nil && strings.HasPrefix(*reason, mark) }

// strays removes what belongs to no cycle and no rollout: someone has deleted
// that.
func (m *machine) strays() Decision {
	for _, name := range slices.Sorted(maps.Keys(m.Hosts)) {
		h := m.Hosts[name]
		if ops := m.marks(h); m.Cycles[name] == nil && len(ops) > 0 {
			return Decision{Ops: append(ops, etcd.Unchanged(cluster.CycleKey(name), 0)), Why: name + " is in no cycle any more"}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.Orders)) {
		if m.Cycles[name] == nil {
			return Decision{Ops: []etcd.Op{etcd.Unchanged(cluster.CycleKey(name), 0), etcd.Delete(cluster.OrderKey(name))}, Why: name + " is in no cycle any more"}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(m.Statuses)) {
		if m.rollout(id) == nil {
			return Decision{Ops: []etcd.Op{etcd.Unchanged(cluster.RolloutKey(id), 0), etcd.Delete(cluster.RolloutStatusKey(id))}, Why: "rollout " + id + " is no more"}
		}
	}
	return Decision{}
}

// marks returns the removal of our marks on a host, and of its order.
func (m *machine) marks(h *Host) (ops []etcd.Op) {
	if ours(h.Cordon) {
		ops = append(ops, etcd.Delete(cluster.CordonKey(h.Name)))
	}
	if ours(h.Drain) {
		ops = append(ops, etcd.Delete(cluster.DrainKey(h.Name)))
	}
	if m.Orders[h.Name] {
		ops = append(ops, etcd.Delete(cluster.OrderKey(h.Name)))
	}
	return ops
}

// host finds one; of a host of which nothing is known there is a name.
func (m *machine) host(name string) *Host {
	if h := m.Hosts[name]; h != nil {
		return h
	}
	return &Host{Name: name}
}

// stamp is the time as it is written.
func (m *machine) stamp() time.Time { return m.Now.UTC().Truncate(time.Millisecond) }

func marshalled(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("rollout: a %T of texts and numbers must marshal: %v", v, err))
	}
	return data
}

func shortly(d cluster.Duration) string { return d.String() }
