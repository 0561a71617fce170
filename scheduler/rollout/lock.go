package rollout

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"bulkhead/cluster"
)

// wanted says that the host asks for its turn, or still has it.
func (l *look) wanted() bool {
	ask := l.Asks[l.host.Name]
	return ask != nil && ask.Wanted
}

// lockedPatch waits until a host that has its turn uses it.
func (l *look) lockedPatch() verdict {
	switch {
	case l.host.Presence == nil || l.rebooted():
		return verdict{next: cluster.StepReturn, why: "it boots"}
	case !l.wanted():
		return verdict{next: cluster.StepSteady, why: "it gave its turn back without having booted"}
	}
	return wait("%s has its turn, and has not booted yet", l.host.Name)
}

// lockedReturn waits until it is back.
func (l *look) lockedReturn() verdict {
	h := l.host
	switch {
	case l.rebooted():
		return verdict{next: cluster.StepSteady, why: "it is back with another boot"}
	case h.Presence != nil && !l.wanted():
		return verdict{next: cluster.StepSteady, why: "it gave its turn back without having booted"}
	case h.Presence != nil:
		return wait("%s was away, has its turn, and has not booted yet", h.Name)
	case l.over(l.gate.Back):
		return failed("%s has not come back within %s", h.Name, shortly(l.gate.Back))
	}
	return verdict{}
}

// asks begins cycles for hosts that want their turn, in the order in which
// they asked. An only host is not begun with: it could not be left, and takes
// nothing new meanwhile.
func (m *machine) asks() Decision {
	names := slices.SortedFunc(maps.Keys(m.Asks), func(a, b string) int {
		return cmp.Or(cmp.Compare(m.Asks[a].Created, m.Asks[b].Created), cmp.Compare(a, b))
	})
	for _, name := range names {
		h := m.Hosts[name]
		if !m.Asks[name].Wanted || m.Cycles[name] != nil || h == nil || h.Presence == nil || len(m.all()) == 1 && h.Placed > 0 || m.taken(h, 1) != "" {
			continue
		}
		return m.begin(h, nil, cluster.Cycle{Host: name, For: cluster.FleetLock, Kind: cluster.RolloutOS, Step: cluster.StepCordon}, fmt.Sprintf("%s asks for its turn", name))
	}
	return Decision{}
}
