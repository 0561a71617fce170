package rollout

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
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

// own are the hosts in a cycle for a rollout.
func (m *machine) own(r *Rollout) (hosts []string) {
	for _, name := range slices.Sorted(maps.Keys(m.Cycles)) {
		if m.Cycles[name].For == r.ID {
			hosts = append(hosts, name)
		}
	}
	return hosts
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
	case r.Kind == cluster.RolloutOS && !r.Alone && len(m.Hosts) == 1:
		return m.stands(r, cluster.RolloutWaiting, fmt.Sprintf("%s is the only host: its tenants have nowhere to go and would be away while it boots. Add a host, or say that this is all right: \"alone\": true (--alone)", hosts[0]))
	}
	st := cluster.RolloutStatus{Phase: cluster.RolloutRunning, Begun: m.stamp(), Hosts: map[string]cluster.HostOutcome{}}
	for _, name := range hosts {
		st.Hosts[name] = cluster.HostOutcome{State: cluster.HostWaiting}
	}
	st.Below = slices.Sorted(maps.Keys(m.Below))
	m.busy = r.ID
	return m.writes(r, st, fmt.Sprintf("rollout %s begins with %d hosts", r.ID, len(hosts)))
}

// matching are the hosts that a rollout is for, or what is wrong with that.
func (m *machine) matching(r *Rollout) (hosts []string, wrong string) {
	all := slices.Sorted(maps.Keys(m.Hosts))
	for _, name := range r.Hosts {
		if m.Hosts[name] == nil {
			return nil, fmt.Sprintf("there is no host %s; there are %s", name, some(all))
		}
	}
	if len(r.Hosts) > 0 {
		return r.Hosts, ""
	}
	for _, name := range all {
		if matches(m.Hosts[name].Labels, r.Labels) {
			hosts = append(hosts, name)
		}
	}
	if len(hosts) == 0 {
		return nil, fmt.Sprintf("no host has the labels %v; there are %s", r.Labels, some(all)) // maps print sorted
	}
	return hosts, ""
}

func some(names []string) string {
	const most = 10
	switch more := len(names) - most; {
	case len(names) == 0:
		return "none"
	case more > 0:
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), more)
	}
	return strings.Join(names, ", ")
}

func matches(has, want map[string]string) bool {
	for label, value := range want {
		if got, ok := has[label]; !ok || got != value {
			return false
		}
	}
	return true
}

// need are the hosts that a rollout has still to begin with, in order.
func (r *Rollout) need(own []string) (need []string) {
	for _, name := range r.order() {
		o := r.Status.Hosts[name]
		if slices.Contains(own, name) {
			continue
		}
		switch o.State {
		case cluster.HostDone, cluster.HostFailed, cluster.HostCycling:
			if r.Undo && o.Before != "" || !r.Undo && o.State != cluster.HostDone {
				need = append(need, name)
			}
		case cluster.HostSkipped:
		default:
			if !r.Undo {
				need = append(need, name)
			}
		}
	}
	return need
}

// order is that in which a rollout takes its hosts.
func (r *Rollout) order() []string {
	if len(r.Hosts) > 0 {
		return slices.DeleteFunc(slices.Clone(r.Hosts), func(name string) bool { _, ok := r.Status.Hosts[name]; return !ok })
	}
	return slices.Sorted(maps.Keys(r.Status.Hosts))
}

// canaries says whether the hosts that go first have all been through it.
func (r *Rollout) canaries() (done bool) {
	n := 0
	for _, o := range r.Status.Hosts {
		if o.State == cluster.HostDone {
			n++
		}
	}
	return n >= r.Pace.Canary
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
		if why == "" && m.Cycles[name] == nil {
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

// wants is the image or release that a host is to have.
func (r *Rollout) wants(o cluster.HostOutcome) string {
	if r.Undo {
		return o.Before
	}
	return r.Image + r.Release // one of them
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

// lost is a host that was in its cycle for a rollout, and isn't; "" when there
// is none.
func (r *Rollout) lost(own []string) string {
	for _, name := range slices.Sorted(maps.Keys(r.Status.Hosts)) {
		if r.Status.Hosts[name].State == cluster.HostCycling && !slices.Contains(own, name) {
			return name
		}
	}
	return ""
}

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
		etcd.Unchanged(cluster.RolloutKey(r.ID), r.Revision), etcd.Put(cluster.RolloutStatusKey(r.ID), marshalled(st)),
	}, Why: why}
}
