package rollout

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// look is a cycle that is looked at, with all that it depends on.
type look struct {
	*machine
	cycle   *Cycle
	host    *Host
	rollout *Rollout // nil: it is the host's own, or was deleted
	gate    cluster.Gate
}

// verdict is what a step comes to.
type verdict struct {
	next    cluster.CycleStep // empty: not yet
	why     string
	order   *cluster.Order // to give, with the next step
	boot    string         // to note, with the next step
	waiting []string       // for what; with no next step
	dropped string         // why the cycle ends without anything done
	failed  string         // which gate did
}

func wait(format string, args ...any) verdict {
	return verdict{waiting: []string{fmt.Sprintf(format, args...)}}
}

func failed(format string, args ...any) verdict { return verdict{failed: fmt.Sprintf(format, args...)} }

func (m *machine) cycles() Decision {
	for _, name := range slices.Sorted(maps.Keys(m.Cycles)) {
		l := &look{machine: m, cycle: m.Cycles[name], host: m.host(name), gate: cluster.DefaultGate()}
		if l.cycle.For != cluster.FleetLock {
			l.rollout = m.Picture.rollout(l.cycle.For)
		}
		if l.rollout != nil && l.rollout.Kind != "" {
			l.gate = l.rollout.Gate
		}
		if d := l.decide(); !d.none() {
			return d
		}
	}
	return Decision{}
}

func (l *look) decide() Decision {
	l.lasted()
	if d := l.turned(); !d.none() {
		return d
	}
	if l.cycle.Stopped != "" {
		return l.stopped()
	}
	return l.apply(l.step())
}

// step is the machine: what the step that a cycle is in comes to.
func (l *look) step() verdict {
	kind := l.cycle.Kind
	switch l.cycle.Step {
	case cluster.StepCordon:
		return verdict{next: cluster.StepDrain, why: "nothing new is placed there"}
	case cluster.StepDrain:
		return l.drain()
	case cluster.StepLeave:
		return l.leave()
	case cluster.StepPatch:
		switch {
		case l.own():
			return l.lockedPatch()
		case kind == cluster.RolloutOS:
			return l.osPatch()
		default:
			return l.takesUp()
		}
	case cluster.StepReturn:
		switch {
		case l.own():
			return l.lockedReturn()
		case kind == cluster.RolloutOS:
			return l.osReturn()
		case kind == cluster.RolloutImage:
			return l.replaced()
		default:
			return l.released()
		}
	case cluster.StepSteady:
		return l.steady()
	}
	return failed("its cycle is at %q, which is no step that this scheduler knows", l.cycle.Step)
}

// apply turns a verdict into writes.
func (l *look) apply(v verdict) Decision {
	switch {
	case v.failed != "" && l.own() && l.host.Presence != nil:
		return l.say([]string{v.failed}) // nobody but the host can end it
	case v.failed != "":
		return l.stop(v.failed)
	case v.dropped != "":
		return Decision{Ops: append(l.ends(), l.outcome(cluster.HostWaiting, v.dropped, nil)...), Why: fmt.Sprintf("%s is let go: %s", l.host.Name, v.dropped)}
	case v.next == cluster.StepDone:
		return l.done()
	case v.next == "":
		return l.say(v.waiting)
	}
	next := l.cycle.Cycle
	next.Step, next.Since, next.Waiting = v.next, l.stamp(), nil
	if v.boot != "" {
		next.Boot = v.boot
	}
	ops := []etcd.Op{etcd.Unchanged(cluster.CycleKey(l.host.Name), l.cycle.Revision)}
	if v.order != nil {
		next.Order = *v.order
		ops = append(ops, etcd.Put(cluster.OrderKey(l.host.Name), marshalled(next.Order)))
	}
	if v.next == cluster.StepDrain {
		ops = append(ops, l.drains()...)
	}
	return Decision{Ops: append(ops, etcd.Put(cluster.CycleKey(l.host.Name), marshalled(next))), Why: fmt.Sprintf("%s goes on to %s: %s", l.host.Name, v.next, v.why)}
}

// drains has a host drained, unless an operator does already, and takes our
// cordon away, which a drain includes.
func (l *look) drains() (ops []etcd.Op) {
	if l.host.Drain == nil || ours(l.host.Drain) {
		ops = append(ops, etcd.Put(cluster.DrainKey(l.host.Name), []byte(reasonOf(&l.cycle.Cycle))))
	}
	if ours(l.host.Cordon) {
		ops = append(ops, etcd.Delete(cluster.CordonKey(l.host.Name)))
	}
	return ops
}

// say writes what a cycle waits for, and whether that is for too long, when
// that is news.
func (l *look) say(waiting []string) Decision {
	next := l.cycle.Cycle
	next.Waiting, next.Alert = waiting, ""
	if held := l.sights.lasts(l.key("held"), "", l.Now); held > lockTTL {
		next.Alert = fmt.Sprintf("%s has held the turn of group %s for more than %s", l.host.Name, l.cycle.Group, cluster.Duration(lockTTL))
	}
	if slices.Equal(next.Waiting, l.cycle.Waiting) && next.Alert == l.cycle.Alert {
		return Decision{}
	}
	d := Decision{Ops: []etcd.Op{
		etcd.Unchanged(cluster.CycleKey(l.host.Name), l.cycle.Revision), etcd.Put(cluster.CycleKey(l.host.Name), marshalled(next)),
	}}
	if d.Why = fmt.Sprintf("%s waits: %q", l.host.Name, waiting); next.Alert != "" && l.cycle.Alert == "" {
		d.Why, d.Alert = next.Alert, true
	}
	return d
}

// lockTTL is how long a host may be in its cycle before someone should look.
const lockTTL = time.Hour

// own says that the host asked for its turn by itself.
func (l *look) own() bool { return l.cycle.For == cluster.FleetLock }

// key names a sight of this cycle.
func (l *look) key(of string) string {
	return fmt.Sprintf("%s@%d/%s", l.host.Name, l.cycle.Created, of)
}

// lasted is for how long the cycle has been in its step.
func (l *look) lasted() time.Duration {
	c := l.cycle
	return l.sights.lasts(l.key("step"), fmt.Sprint(c.Step, c.Since.UnixNano(), c.Stopped), l.Now)
}

func (l *look) over(limit cluster.Duration) bool { return l.lasted() > time.Duration(limit) }

// newOrder names an order as none before it.
func (m *machine) newOrder(of string, o cluster.Order) *cluster.Order {
	o.ID = fmt.Sprintf("%s.%d", of, m.Revision)
	o.From = m.having(o.Image)
	return &o
}

// sources is how many hosts are named that have an image.
const sources = 5

// having is where a host may get an image: from hosts that run it.
func (m *machine) having(image string) map[string]string {
	if image == "" {
		return nil
	}
	all := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(m.Hosts)) {
		if p := m.Hosts[name].Presence; p != nil && p.Image == image && p.Address != "" && len(all) < sources {
			all[name] = p.Address
		}
	}
	return all
}

// report is what became of the cycle's order; the zero value: nothing yet.
func (l *look) report() cluster.Report {
	if r := l.host.Report; r.Order == l.cycle.Order.ID && r.Order != "" {
		return r
	}
	return cluster.Report{}
}
