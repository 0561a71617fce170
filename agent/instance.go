package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"bulkhead/cluster"
)

var (
	// errCellGone also ends a wait for a cell that can't come any more.
	errCellGone = errors.New("the container stopped")
	errRefused  = errors.New("the runner's socket failed: its service failed too often")
)

const (
	retryMin = 200 * time.Millisecond
	retryMax = 30 * time.Second
	// settled is how long an instance has to be ready for its next trouble to
	// count as new.
	settled = time.Minute
)

// life is what the agent remembers of an instance, besides what it observes.
type life struct {
	cancel   context.CancelCauseFunc // of its worker; nil: none is at work
	worked   bool                    // something was done to it since its directories were last read
	before   map[string]bool         // containers that were there when its worker set out
	failures int                     // in a row
	retry    time.Time               // not before
	err      error                   // of the last attempt
	alive    bool                    // it had a running container when last seen
	alone    time.Time               // since when it has a cell, may sleep, and no runner runs; zero: not so
	refused  bool                    // its socket had failed when last seen
	phase    cluster.Phase
	reason   string
	since    time.Time
	told     cluster.Instance // last reported
}

// failed notes a failure: the next attempt waits, longer each time.
func (l *life) failed(err error, now time.Time) {
	l.err = err
	l.retry = now.Add(min(retryMin<<min(l.failures, 16), retryMax))
	l.failures++
}

// stumbled notes trouble that came by itself: the first is mended at once.
func (l *life) stumbled(err error, now time.Time) {
	if l.failures == 0 {
		l.failures = 1
		return
	}
	l.failed(err, now)
}

// settle forgets old troubles of an instance that has been ready for a while.
func (l *life) settle(now time.Time) {
	if (l.phase == cluster.Ready || l.phase == cluster.Dormant) && now.Sub(l.since) > settled {
		l.failures = 0
	}
}

// enter changes phase; the same phase with another reason keeps its time.
func (l *life) enter(p cluster.Phase, reason string, now time.Time) {
	if l.phase != p {
		l.phase, l.since = p, now
	}
	l.reason = reason
}

// judge says which phase an instance is in, and why, if it is not ready.
// Without sight of containers, a cell that answers is one that runs.
func (l *life) judge(i string, w Want, o Observed, tasks []Task) (cluster.Phase, string) {
	c, alive := o.Alive(i)
	names, nameErr := unitNames(i)
	if nameErr != nil {
		return cluster.Failed, nameErr.Error()
	}
	socket := o.Units[names[2]]
	switch {
	case w.Missing != "":
		return cluster.Starting, w.Missing
	case !w.ready(o.Dirs[i]):
		return cluster.Starting, w.Awaits
	case (alive && c.Image == w.Cell.Image || o.Blind != nil) && o.Dirs[i].Answers && socket.Active == "active":
		return cluster.Ready, w.Behind
	case !alive && o.Blind == nil && !w.warm() && len(tasks) == 0 && l.cancel == nil && socket.Active == "active":
		return cluster.Dormant, w.Behind
	case l.err != nil:
		return cluster.Failed, l.err.Error()
	case len(tasks) > 0:
		return cluster.Starting, fmt.Sprintf("%s: %s", tasks[0].Action, tasks[0].Reason)
	}
	return cluster.Starting, "its worker is at it"
}

// report is what is said in etcd about an instance.
func (a *Agent) report(i string, w Want, o Observed, l *life, tasks []Task) cluster.Instance {
	c, _ := o.Alive(i)
	if o.Blind != nil {
		c.ID = l.told.Container
	}
	r := cluster.Instance{
		Tenant: w.Placement.Tenant, Instance: i, Host: a.cfg.Host.Name,
		Phase: l.phase, Reason: l.reason, Since: l.since.UTC(),
		Endpoint:  a.cfg.Host.Paths.InstanceDir(i).Socket(),
		Network:   a.noNetwork(i, w.Placement.Egress),
		Container: c.ID, Placement: w.Revision, Functions: l.told.Functions, Told: l.told.Told,
	}
	if len(tasks) == 0 && l.cancel == nil {
		r.Functions, r.Told = w.FunctionsRevision, w.Revision
	}
	return r
}
