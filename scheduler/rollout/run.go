package rollout

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"bulkhead/cluster"
)

// rollouts looks at all of them, the oldest first.
func (m *machine) rollouts() Decision {
	for _, r := range m.Rollouts {
		if d := m.run(r); !d.none() {
			return d
		}
	}
	return Decision{}
}

// run says what is next for a rollout: to begin with a host, or to say how it
// stands.
func (m *machine) run(r *Rollout) Decision {
	switch {
	case r.Problem != "" && (r.Status == nil || r.Status.Begun.IsZero() || r.Kind == ""):
		return m.stands(r, cluster.RolloutWaiting, "it is not valid: "+r.Problem)
	case r.Status == nil || r.Status.Begun.IsZero():
		return m.first(r)
	}
	own := m.own(r)
	need := r.need(own)
	if len(own) > 0 {
		defer func() { m.busy = r.ID }()
	}
	return m.phase(r, own, need)
}

func (m *machine) phase(r *Rollout, own, need []string) Decision {
	st := r.Status
	switch {
	case r.Aborted && !r.Undo && len(own) > 0:
		return m.stands(r, cluster.RolloutAborted, "still at it: "+strings.Join(own, ", "))
	case r.Aborted && !r.Undo:
		return m.ended(r, cluster.RolloutAborted)
	case r.lost(own) != "":
		return m.removed(r, r.lost(own))
	case st.Phase == cluster.RolloutStopped && (r.Paused || r.Revision <= st.Observed):
		return Decision{}
	case st.Phase == cluster.RolloutStopped:
		return m.resume(r)
	case len(need) == 0 && len(own) == 0 && r.Undo:
		return m.ended(r, cluster.RolloutUndone)
	case len(need) == 0 && len(own) == 0 && !st.Ended.IsZero():
		return Decision{}
	case r.Problem != "":
		return m.stands(r, cluster.RolloutPaused, "as it is written now it is not valid: "+r.Problem)
	case r.Paused:
		return m.stands(r, cluster.RolloutPaused, "")
	case len(own) > 0 && len(need) == 0:
		return m.stands(r, cluster.RolloutRunning, "")
	case m.busy != "":
		return m.stands(r, cluster.RolloutWaiting, "its turn comes after rollout "+m.busy)
	}
	if why, long := m.below(r, time.Duration(r.Gate.Move)); why != "" && !r.Undo {
		m.busy = r.ID
		if long {
			return m.halt(r, why)
		}
		return m.stands(r, cluster.RolloutRunning, why)
	}
	if len(need) == 0 {
		return m.ended(r, cluster.RolloutDone)
	}
	if d, watching := m.watch(r, own); watching {
		return d
	}
	return m.next(r, own, need)
}

// first decides which hosts a rollout is for, or says why it can't begin.
func (m *machine) first(r *Rollout) Decision {
	hosts, wrong := m.matching(r)
	switch {
	case r.Aborted:
		return m.ended(r, cluster.RolloutAborted)
	case wrong != "":
		return m.stands(r, cluster.RolloutWaiting, wrong)
	case m.busy != "":
		return m.stands(r, cluster.RolloutWaiting, "its turn comes after rollout "+m.busy)
	case r.Undo:
		return m.stands(r, cluster.RolloutWaiting, "it has not begun, so there is nothing to undo")
	case r.Kind == cluster.RolloutOS && !r.Alone && len(m.all()) == 1:
		return m.stands(r, cluster.RolloutWaiting, fmt.Sprintf("%s is the only host: its tenants have nowhere to go and would be away while it boots. Add a host, or say that this is all right: \"alone\": true (--alone)", hosts[0]))
	}
	st := cluster.RolloutStatus{Phase: cluster.RolloutRunning, Begun: m.stamp(), Hosts: map[string]cluster.HostOutcome{}}
	for _, name := range hosts {
		st.Hosts[name] = cluster.HostOutcome{State: cluster.HostWaiting}
	}
	st.Below, st.Failed = slices.Sorted(maps.Keys(m.Below)), m.counted()
	m.busy = r.ID
	return m.writes(r, st, fmt.Sprintf("rollout %s begins with %d hosts", r.ID, len(hosts)))
}

// watch waits between the canaries and the rest.
func (m *machine) watch(r *Rollout, own []string) (d Decision, watching bool) {
	if r.Undo || r.Status.Watched || !r.canaries() || len(own) > 0 {
		return Decision{}, false
	}
	m.busy = r.ID
	if m.sights.lasts("watch/"+r.ID, r.Status.Begun.String(), m.Now) < time.Duration(r.Pace.Watch) {
		return m.stands(r, cluster.RolloutWatched, fmt.Sprintf("the canaries are watched for %s", r.Pace.Watch)), true
	}
	st := copyOf(r.Status)
	st.Phase, st.Reason, st.Watched = cluster.RolloutRunning, "", true
	return m.writes(r, st, "the canaries have been watched"), true
}

// next begins with the next host that can be begun with, or says what all wait
// for.
func (m *machine) next(r *Rollout, own, need []string) Decision {
	limit := r.Pace.AtOnce
	if !r.Undo && !r.canaries() {
		limit = 1
	}
	if len(own) >= limit {
		return m.stands(r, cluster.RolloutRunning, "")
	}
	st, first := copyOf(r.Status), ""
	for _, name := range need {
		h, o := m.Hosts[name], st.Hosts[name]
		if h == nil {
			o.State, o.Reason = cluster.HostSkipped, "it is no more"
			st.Hosts[name] = o
			return m.writes(r, st, name+" is no more")
		}
		want, has := r.wants(o), h.has(r.Kind)
		if o.State == cluster.HostWaiting && r.Kind != cluster.RolloutOS && has == want {
			o.State, o.Reason = cluster.HostSkipped, "it has it already"
			st.Hosts[name] = o
			return m.writes(r, st, name+" has it already")
		}
		why := h.unfit()
		if why == "" {
			why = m.taken(h, limit)
		}
		if why == "" {
			c := cluster.Cycle{Host: name, For: r.ID, Kind: r.Kind, Step: cluster.StepCordon, Action: r.Action}
			if r.Kind != cluster.RolloutOS {
				c.Order = *m.newOrder(r.ID, orderFor(r.Kind, want))
			}
			return m.begin(h, r, c, "rollout "+r.ID)
		}
		if first == "" {
			first = fmt.Sprintf("waits for %s: %s", name, why)
		}
	}
	return m.stands(r, cluster.RolloutRunning, first)
}

// below says which tenant has had fewer instances than it must since the
// rollout began, and whether it has for too long.
func (m *machine) below(r *Rollout, limit time.Duration) (why string, long bool) {
	if r == nil || r.Status == nil {
		return "", false
	}
	for _, tenant := range slices.Sorted(maps.Keys(m.Below)) {
		if slices.Contains(r.Status.Below, tenant) {
			continue
		}
		lasts := m.sights.lasts("below/"+r.ID+"/"+tenant, "", m.Now)
		if long = lasts > limit; why == "" || long {
			why = fmt.Sprintf("tenant %s has %s instances serving, and had enough when the rollout began", tenant, m.Below[tenant])
		}
		if long {
			return why, true
		}
	}
	return why, false
}
