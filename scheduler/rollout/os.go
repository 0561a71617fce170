package rollout

import (
	"fmt"
	"slices"
	"time"

	"bulkhead/cluster"
)

// drain waits until a host has no placements, and its agent nothing running.
func (l *look) drain() verdict {
	h := l.host
	if l.own() && !l.wanted() {
		return verdict{next: cluster.StepSteady, why: "it does not want its turn any more"}
	}
	if h.Drain == nil {
		return verdict{next: cluster.StepDrain, why: "someone has lifted its drain"}
	}
	if len(h.Left) == 0 && h.Running == 0 {
		return l.leaves("it has no instances any more")
	}
	if len(h.Left) > 0 {
		waiting, stuck := l.moving(h.Left, "has not left")
		if stuck != "" {
			return failed("%s", stuck)
		}
		if l.alone() && len(waiting) > 0 && !slices.ContainsFunc(h.Left, func(i Left) bool { return i.Waits == "" }) {
			return l.leaves("what is left has nowhere to go, and the rollout says that it may be away")
		}
		if len(waiting) > 0 && !l.own() && (l.rollout == nil || l.rollout.Aborted) {
			return verdict{dropped: "the rollout ended while there was no room for what it has"}
		}
		return verdict{waiting: waiting}
	}
	if l.sights.lasts(l.key("running"), fmt.Sprint(h.Running), l.Now) > time.Duration(l.gate.Move) {
		return failed("the agent of %s has not stopped the last %d instances within %s", h.Name, h.Running, shortly(l.gate.Move))
	}
	return wait("%d instances are stopping on %s", h.Running, h.Name)
}

func (l *look) alone() bool { return l.rollout != nil && l.rollout.Alone }

// moving says what instances wait for, and which of them had room and was not
// replaced within the gate.
func (l *look) moving(left []Left, how string) (waiting []string, stuck string) {
	for _, i := range left {
		state := "moves"
		if i.Waits != "" {
			state = "waits"
			if !slices.Contains(waiting, i.Waits) {
				waiting = append(waiting, i.Waits)
			}
		}
		if l.sights.lasts(l.key("left/"+i.Instance), state, l.Now) > time.Duration(l.gate.Move) && state == "moves" && stuck == "" {
			stuck = fmt.Sprintf("%s %s %s within %s, although there is room: does its replacement get ready (bulkhead tenant show %s)?", i.Instance, how, l.host.Name, shortly(l.gate.Move), i.Tenant)
		}
	}
	return waiting, stuck
}

// leaves has the host's proxy say that it is leaving.
func (l *look) leaves(why string) verdict {
	return verdict{next: cluster.StepLeave, why: why, order: l.newOrder(l.cycle.For, cluster.Order{Leave: true})}
}

// leave waits until the host's proxy has left.
func (l *look) leave() verdict {
	switch h := l.host; {
	case l.own() && !l.wanted():
		return verdict{next: cluster.StepSteady, why: "it does not want its turn any more"}
	case len(h.Left) > 0 && !l.alone():
		return verdict{next: cluster.StepDrain, why: "it has instances again"}
	case h.Presence == nil && l.over(l.gate.Back):
		return failed("%s vanished while it was to leave, and has not come back within %s", h.Name, shortly(l.gate.Back))
	case h.Presence == nil:
		return wait("%s is gone: it has to be there to be patched", h.Name)
	case l.report().State == cluster.OrderFailed:
		return failed("the proxy of %s cannot leave: %s", h.Name, l.report().Error)
	case l.report().Left:
		order := cluster.Order{Leave: true, Granted: l.own(), Action: l.cycle.Action}
		return verdict{next: cluster.StepPatch, why: "its proxy has left", boot: h.Presence.Boot, order: l.newOrder(l.cycle.For, order)}
	case l.over(l.gate.Move):
		return failed("the proxy of %s has not left within %s: does its agent run?", h.Name, shortly(l.gate.Move))
	}
	return verdict{}
}

// rebooted says that the host is there with another boot than it had when it
// was told.
func (l *look) rebooted() bool {
	return l.host.Presence != nil && l.host.Presence.Boot != l.cycle.Boot
}

// osPatch waits until the host is at it.
func (l *look) osPatch() verdict {
	r := l.report()
	switch {
	case r.State == cluster.OrderFailed:
		return failed("%s cannot %s: %s", l.host.Name, l.cycle.Order.Action, r.Error)
	case r.State != "" || l.host.Presence == nil || l.rebooted():
		return verdict{next: cluster.StepReturn, why: "it is being patched"}
	case l.over(l.gate.Back):
		return failed("the agent of %s has not taken up %s within %s", l.host.Name, l.cycle.Order.Action, shortly(l.gate.Back))
	}
	return verdict{}
}

// osReturn waits for another boot, and the host's own word that it is patched.
func (l *look) osReturn() verdict {
	h, r := l.host, l.report()
	switch {
	case r.State == cluster.OrderFailed:
		return failed("%s cannot %s: %s", h.Name, l.cycle.Order.Action, r.Error)
	case l.rebooted() && r.State == cluster.OrderDone:
		return verdict{next: cluster.StepSteady, why: "it is back with another boot"}
	case !l.over(l.gate.Back):
		return verdict{}
	case h.Presence == nil:
		return failed("%s has not come back within %s", h.Name, shortly(l.gate.Back))
	case !l.rebooted():
		return failed("%s is there, but has not booted anew within %s", h.Name, shortly(l.gate.Back))
	}
	return failed("%s is back with another boot, but its agent has not said within %s that %s is done", h.Name, shortly(l.gate.Back), l.cycle.Order.Action)
}

// steady waits until the host has been well, without a break, for the gate.
func (l *look) steady() verdict {
	h := l.host
	late := l.over(l.gate.Back + l.gate.Steady)
	switch {
	case h.Presence == nil && late:
		return failed("%s came back and vanished again", h.Name)
	case h.Presence == nil:
		return verdict{}
	case h.Presence.Unready != "" && late:
		return failed("%s is back, but not well: %s", h.Name, h.Presence.Unready)
	case h.Presence.Unready != "":
		l.sights.lasts(l.key("well"), "no", l.Now)
		return wait("%s is not well yet: %s", h.Name, h.Presence.Unready)
	}
	well := min(l.sights.lasts(l.key("well"), "yes"+h.Back.String(), l.Now), l.Now.Sub(h.Back))
	if well < time.Duration(l.gate.Steady) {
		if late {
			return failed("%s comes and goes: it has not been steady for %s within %s", h.Name, shortly(l.gate.Steady), shortly(l.gate.Back))
		}
		return verdict{}
	}
	if l.own() && l.wanted() {
		return wait("%s is well again, and has not given its turn back yet", h.Name)
	}
	return verdict{next: cluster.StepDone, why: "it is well"}
}
