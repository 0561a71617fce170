package rollout

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// group is that of the hosts that a host takes turns with.
func (m *machine) group(host string) string {
	if ask := m.Asks[host]; ask != nil && ask.Group != "" {
		return ask.Group
	}
	return cluster.DefaultGroup
}

// taken says why a host can't have its turn now, of which there are limit at a
// time in its group; "" means that it can.
func (m *machine) taken(h *Host, limit int) string {
	if c := m.Cycles[h.Name]; c != nil {
		return "it is in its cycle for " + c.For
	}
	group, holders := m.group(h.Name), []string(nil)
	for _, name := range slices.Sorted(maps.Keys(m.Cycles)) {
		if m.Cycles[name].Group == group {
			holders = append(holders, name)
		}
		if h.Member && (m.Cycles[name].Member || m.host(name).Member) { // who has just been elected can't know what a host is that boots
			return fmt.Sprintf("%s has a member of etcd, as %s has, which is in its cycle", h.Name, name)
		}
	}
	if len(holders) >= limit {
		return fmt.Sprintf("it is the turn of %s in group %s", strings.Join(holders, ", "), group)
	}
	for _, name := range slices.Sorted(maps.Keys(m.Hosts)) {
		if other := m.Hosts[name]; h.Member && other.Member && other.Presence == nil && other != h {
			return fmt.Sprintf("%s has a member of etcd, as %s has, which is gone", h.Name, name)
		}
	}
	return m.Braked
}

// unfit says why a rollout can't begin with a host as it is, or "".
func (h *Host) unfit() string {
	switch {
	case h.Presence == nil:
		return "it is gone"
	case h.Drain != nil && !ours(h.Drain):
		return "it is drained: " + *h.Drain
	case h.Cordon != nil && !ours(h.Cordon):
		return "it is cordoned: " + *h.Cordon
	case h.Distrust != "":
		return "it is distrusted: " + h.Distrust
	case h.Presence.Unready != "":
		return "it is not well: " + h.Presence.Unready
	}
	return ""
}

// begin begins a host's cycle, for a rollout or, nil, for itself.
func (m *machine) begin(h *Host, r *Rollout, c cluster.Cycle, why string) Decision {
	c.Member = h.Member
	c.Group, c.Begun, c.Since, c.Boot = m.group(h.Name), m.stamp(), m.stamp(), h.Presence.Boot
	ops := []etcd.Op{etcd.Unchanged(cluster.CycleKey(h.Name), 0)}
	if r != nil {
		ops = append(ops, etcd.Unchanged(cluster.RolloutKey(r.ID), r.Revision))
		st := copyOf(r.Status)
		before := cmp.Or(st.Hosts[h.Name].Before, h.has(c.Kind))
		if c.Kind == cluster.RolloutOS {
			before = ""
		}
		st.Hosts[h.Name] = cluster.HostOutcome{State: cluster.HostCycling, Before: before}
		st.Phase, st.Reason = cluster.RolloutRunning, ""
		c.Before = before
		ops = append(ops, m.put(r.ID, st))
	}
	if c.Kind == cluster.RolloutOS {
		if h.Cordon == nil {
			ops = append(ops, etcd.Put(cluster.CordonKey(h.Name), []byte(reasonOf(&c))))
		}
	} else {
		c.Step = cluster.StepPatch
		ops = append(ops, etcd.Put(cluster.OrderKey(h.Name), marshalled(c.Order)))
	}
	return Decision{Ops: append(ops, etcd.Put(cluster.CycleKey(h.Name), marshalled(c))), Why: fmt.Sprintf("%s begins its cycle: %s", h.Name, why)}
}
