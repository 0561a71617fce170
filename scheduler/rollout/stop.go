package rollout

import (
	"fmt"
	"maps"
	"time"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// stop is what a failed gate leads to. A host that is there takes part again
// at once, whatever it has become; one that isn't keeps its drain, and its
// turn, until it is.
func (l *look) stop(why string) Decision {
	d := Decision{Why: fmt.Sprintf("rollout %s stops: %s", l.cycle.For, why), Alert: true}
	stopped := func(st *cluster.RolloutStatus) {
		st.Phase, st.Reason, st.Observed = cluster.RolloutStopped, why, l.rollout.Revision
	}
	if l.host.Presence != nil {
		d.Ops = append(l.ends(), l.outcome(cluster.HostFailed, why, stopped)...)
		return d
	}
	next := l.cycle.Cycle
	next.Stopped, next.Waiting = why, nil
	d.Ops = append([]etcd.Op{
		etcd.Unchanged(cluster.CycleKey(next.Host), l.cycle.Revision), etcd.Put(cluster.CycleKey(next.Host), marshalled(next)),
	}, l.outcome(cluster.HostCycling, why, stopped)...)
	return d
}

// stopped is a cycle whose host was gone when a gate failed.
func (l *look) stopped() Decision {
	h := l.host
	resumed := l.rollout != nil && l.rollout.Status != nil && l.rollout.Status.Phase == cluster.RolloutRunning
	switch {
	case h.Presence == nil && resumed:
		return l.goesOn(l.cycle.Step, "the rollout was resumed")
	case h.Presence == nil:
		return l.say(nil)
	case l.cycle.Step == cluster.StepSteady, l.cycle.Kind != cluster.RolloutOS, l.own() && l.cycle.Step == cluster.StepLeave:
		return l.goesOn(l.cycle.Step, "it is back after all")
	case l.rebooted() && (l.own() || l.report().State == cluster.OrderDone):
		return l.goesOn(cluster.StepSteady, "it is back after all, with another boot")
	case l.sights.lasts(l.key("late"), h.Back.String(), l.Now) > time.Duration(l.gate.Move):
		if l.own() {
			return l.goesOn(cluster.StepPatch, "it is back after all, with the same boot")
		}
		d := Decision{Why: fmt.Sprintf("%s is back, but not patched", h.Name)}
		d.Ops = append(l.ends(), l.outcome(cluster.HostFailed, l.cycle.Stopped, nil)...)
		return d
	}
	return l.say([]string{fmt.Sprintf("%s is there: whether it is patched will be seen", h.Name)})
}

// goesOn has a stopped cycle go on at a step, with all the time that it gives.
func (l *look) goesOn(step cluster.CycleStep, why string) Decision {
	next := l.cycle.Cycle
	next.Step, next.Since, next.Stopped, next.Waiting = step, l.stamp(), "", nil
	return Decision{Ops: []etcd.Op{
		etcd.Unchanged(cluster.CycleKey(next.Host), l.cycle.Revision), etcd.Put(cluster.CycleKey(next.Host), marshalled(next)),
	}, Why: fmt.Sprintf("%s goes on at %s: %s", next.Host, step, why)}
}

// done ends a cycle.
func (l *look) done() Decision {
	state := cluster.HostDone
	if l.cycle.Kind != cluster.RolloutOS && target(l.cycle.Order) == l.cycle.Before {
		state = cluster.HostUndone
	}
	return Decision{Ops: append(l.ends(), l.outcome(state, "", nil)...), Why: fmt.Sprintf("%s is %s", l.host.Name, state)}
}

// ends removes a cycle, and all that it put on its host.
func (l *look) ends() []etcd.Op {
	return append([]etcd.Op{
		etcd.Unchanged(cluster.CycleKey(l.host.Name), l.cycle.Revision), etcd.Delete(cluster.CycleKey(l.host.Name)),
	}, l.marks(l.host)...)
}

// outcome notes in the rollout's status what became of the host; and change
// what else.
func (l *look) outcome(state, reason string, change func(*cluster.RolloutStatus)) []etcd.Op {
	if l.rollout == nil || l.rollout.Status == nil {
		return nil
	}
	st := copyOf(l.rollout.Status)
	o := st.Hosts[l.host.Name]
	o.State, o.Reason, o.Took = state, reason, max(l.Now.Sub(l.cycle.Begun), 0).Round(time.Millisecond)
	st.Hosts[l.host.Name] = o
	if change != nil {
		change(&st)
	}
	return []etcd.Op{l.put(l.rollout.ID, st)}
}

func copyOf(st *cluster.RolloutStatus) cluster.RolloutStatus {
	c := *st
	if c.Hosts = maps.Clone(st.Hosts); c.Hosts == nil {
		c.Hosts = map[string]cluster.HostOutcome{}
	}
	return c
}
