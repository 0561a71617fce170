package rollout

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// removed stops a rollout of which someone has removed a host's cycle.
func (m *machine) removed(r *Rollout, host string) Decision {
	c := *r
	st := copyOf(r.Status)
	o := st.Hosts[host]
	o.State, o.Reason = cluster.HostFailed, "its cycle was removed"
	st.Hosts[host], c.Status = o, &st
	return m.halt(&c, fmt.Sprintf("the cycle of %s was removed", host))
}

// halt stops a rollout between two hosts.
func (m *machine) halt(r *Rollout, why string) Decision {
	st := copyOf(r.Status)
	st.Phase, st.Reason, st.Observed = cluster.RolloutStopped, why, r.Revision
	d := m.writes(r, st, fmt.Sprintf("rollout %s stops: %s", r.ID, why))
	d.Alert = true
	return d
}

// resume lets a stopped rollout go on where it was. What is missing now has
// been seen to or put up with.
func (m *machine) resume(r *Rollout) Decision {
	st := copyOf(r.Status)
	st.Phase, st.Reason, st.Ended = cluster.RolloutRunning, "", time.Time{}
	st.Below = slices.Sorted(maps.Keys(m.Below))
	for name, o := range st.Hosts {
		if o.State == cluster.HostFailed && !r.Undo {
			o.Reason = "tried again; before: " + o.Reason
			st.Hosts[name] = o
		}
	}
	return m.writes(r, st, "rollout "+r.ID+" is resumed")
}

func (m *machine) ended(r *Rollout, phase string) Decision {
	if st := r.Status; st != nil && st.Phase == phase && !st.Ended.IsZero() {
		return Decision{}
	}
	st := cluster.RolloutStatus{Hosts: map[string]cluster.HostOutcome{}}
	if r.Status != nil {
		st = copyOf(r.Status)
	}
	st.Phase, st.Reason, st.Ended = phase, "", m.stamp()
	return m.writes(r, st, fmt.Sprintf("rollout %s is %s", r.ID, phase))
}

// stands says how a rollout is, when that is news.
func (m *machine) stands(r *Rollout, phase, reason string) Decision {
	st := cluster.RolloutStatus{Hosts: map[string]cluster.HostOutcome{}}
	if r.Status != nil {
		st = copyOf(r.Status)
	}
	if st.Phase, st.Reason, st.Ended = phase, reason, (time.Time{}); r.Status != nil && reflect.DeepEqual(st, *r.Status) {
		return Decision{}
	}
	return m.writes(r, st, fmt.Sprintf("rollout %s is %s: %s", r.ID, phase, reason))
}

func (m *machine) writes(r *Rollout, st cluster.RolloutStatus, why string) Decision {
	return Decision{Ops: []etcd.Op{
		etcd.Unchanged(cluster.RolloutKey(r.ID), r.Revision), m.put(r.ID, st),
	}, Why: why}
}
