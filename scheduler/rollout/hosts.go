package rollout

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"bulkhead/cluster"
)

// own are the hosts in a cycle for a rollout.
func (m *machine) own(r *Rollout) (hosts []string) {
	for _, name := range slices.Sorted(maps.Keys(m.Cycles)) {
		if m.Cycles[name].For == r.ID {
			hosts = append(hosts, name)
		}
	}
	return hosts
}

// matching are the hosts that a rollout is for, or what is wrong with that.
func (m *machine) matching(r *Rollout) (hosts []string, wrong string) {
	all := m.all()
	for _, name := range r.Hosts {
		if !slices.Contains(all, name) {
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

// all are the hosts that are there, or ought to be.
func (m *machine) all() (hosts []string) {
	for _, name := range slices.Sorted(maps.Keys(m.Hosts)) {
		if h := m.Hosts[name]; h.Presence != nil || h.Known || h.Placed > 0 {
			hosts = append(hosts, name)
		}
	}
	return hosts
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

// wants is the image or release that a host is to have.
func (r *Rollout) wants(o cluster.HostOutcome) string {
	if r.Undo {
		return o.Before
	}
	return r.Image + r.Release // one of them
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
