package rollout

import (
	"fmt"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// target is the image or release that an order asks for.
func target(o cluster.Order) string {
	if o.Image != "" {
		return o.Image
	}
	return o.Release
}

// has is the image or release that a host has.
func (h *Host) has(kind cluster.RolloutKind) string {
	switch {
	case h.Presence == nil:
		return ""
	case kind == cluster.RolloutImage:
		return h.Presence.Image
	}
	return h.Presence.Versions[cluster.Release]
}

// orderFor asks for an image or release.
func orderFor(kind cluster.RolloutKind, want string) cluster.Order {
	if kind == cluster.RolloutImage {
		return cluster.Order{Image: want}
	}
	return cluster.Order{Release: want}
}

// takesUp waits until the host has the image, or is at becoming the release.
func (l *look) takesUp() verdict {
	h, r, want := l.host, l.report(), target(l.cycle.Order)
	switch {
	case r.State == cluster.OrderFailed:
		return failed("%s cannot have %s: %s", h.Name, want, r.Error)
	case r.State == cluster.OrderDone && h.has(l.cycle.Kind) == want:
		return verdict{next: cluster.StepReturn, why: "it has " + want}
	case l.cycle.Kind == cluster.RolloutAgent && r.State == cluster.OrderDoing:
		return verdict{next: cluster.StepReturn, why: "it becomes " + want}
	case !l.over(l.gate.Back):
		return verdict{}
	case h.Presence == nil:
		return failed("%s vanished while it was to get %s, and has not come back within %s", h.Name, want, shortly(l.gate.Back))
	}
	return failed("%s has not got %s within %s", h.Name, want, shortly(l.gate.Back))
}

// replaced waits until every instance of a host runs its new image.
func (l *look) replaced() verdict {
	h, want := l.host, target(l.cycle.Order)
	switch {
	case h.Presence == nil && l.over(l.gate.Back):
		return failed("%s vanished while its instances were replaced, and has not come back within %s", h.Name, shortly(l.gate.Back))
	case h.Presence == nil:
		return wait("%s is gone", h.Name)
	case h.has(l.cycle.Kind) != want:
		return failed("%s had %s, and has %s now", h.Name, want, h.has(l.cycle.Kind))
	}
	return l.renewed("its instances run " + want)
}

// renewed waits until every instance of a host has the host's image and runner.
func (l *look) renewed(why string) verdict {
	var stale []Left
	for _, i := range l.host.Left {
		if i.Stale {
			stale = append(stale, i)
		}
	}
	if len(stale) == 0 {
		return verdict{next: cluster.StepSteady, why: why}
	}
	waiting, stuck := l.moving(stale, "was not replaced on")
	if stuck != "" {
		return failed("%s", stuck)
	}
	return verdict{waiting: waiting}
}

// released waits until the host is there as the release, and all its instances
// have the release's runner.
func (l *look) released() verdict {
	h, r, want := l.host, l.report(), target(l.cycle.Order)
	switch {
	case r.State == cluster.OrderFailed:
		return failed("%s cannot become %s: %s", h.Name, want, r.Error)
	case r.State == cluster.OrderDone && h.has(l.cycle.Kind) == want:
		return l.renewed("it is " + want)
	case !l.over(l.gate.Back):
		return verdict{}
	case h.Presence == nil:
		return failed("the agent of %s has not come back as %s within %s", h.Name, want, shortly(l.gate.Back))
	}
	return failed("%s runs %s, and not %s within %s", h.Name, h.has(l.cycle.Kind), want, shortly(l.gate.Back))
}

// turned has a host that is at it go back to what it had, when the rollout is
// to be undone.
func (l *look) turned() Decision {
	c, r := l.cycle, l.rollout
	if r == nil || !r.Undo || c.Kind == cluster.RolloutOS || c.Before == "" || target(c.Order) == c.Before {
		return Decision{}
	}
	next := c.Cycle
	next.Step, next.Since, next.Waiting, next.Stopped = cluster.StepPatch, l.stamp(), nil, ""
	next.Order = *l.newOrder(c.For, orderFor(c.Kind, c.Before))
	return Decision{
		Ops: []etcd.Op{
			etcd.Unchanged(cluster.CycleKey(c.Host), c.Revision), etcd.Put(cluster.OrderKey(c.Host), marshalled(next.Order)),
			etcd.Put(cluster.CycleKey(c.Host), marshalled(next)),
		},
		Why: fmt.Sprintf("%s goes back to %s: rollout %s is undone", c.Host, c.Before, c.For),
	}
}
