package scheduler

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
	"bulkhead/scheduler/rollout"
)

// rolls is what is known of rollouts.
type rolls struct {
	written  map[string]*writtenRollout
	statuses map[string]*cluster.RolloutStatus
	cycles   map[string]*rollout.Cycle // by host, as all that follow
	orders   map[string]bool
	reports  map[string]cluster.Report
	asks     map[string]*rollout.Ask
	sights   *rollout.Sights
	dirty    bool             // something may be decided
	decided  rollout.Decision // last, and not yet told of
}

// writtenRollout is a rollout as an operator has written it.
type writtenRollout struct {
	created, revision int64
	value             cluster.Rollout // the last good one
	problem           string
}

func newRolls() rolls {
	return rolls{
		written: map[string]*writtenRollout{}, statuses: map[string]*cluster.RolloutStatus{}, cycles: map[string]*rollout.Cycle{},
		orders: map[string]bool{}, reports: map[string]cluster.Report{}, asks: map[string]*rollout.Ask{}, sights: rollout.NewSights(),
	}
}

// see takes one of rollouts' own keys in.
func (r *rolls) see(prefix, name string, e etcd.Event) {
	switch prefix {
	case cluster.RolloutsPrefix:
		r.seeRollout(name, e)
	case cluster.CyclesPrefix:
		var c cluster.Cycle
		if keep(r.cycles, name, e, &c) {
			c.Host = name // whatever it says
			r.cycles[name] = &rollout.Cycle{Cycle: c, Created: e.Created, Revision: e.Revision}
		} else if !e.Deleted {
			r.cycles[name] = &rollout.Cycle{Cycle: cluster.Cycle{Host: name, Step: "unreadable"}, Created: e.Created, Revision: e.Revision}
		}
	case cluster.OrdersPrefix:
		if r.orders[name] = true; e.Deleted {
			delete(r.orders, name)
		}
	case cluster.ReportsPrefix:
		var report cluster.Report
		if keep(r.reports, name, e, &report) {
			r.reports[name] = report
		}
	case cluster.AsksPrefix:
		var a cluster.Ask
		if keep(r.asks, name, e, &a) {
			r.asks[name] = &rollout.Ask{Ask: a, Created: e.Created}
		}
	default:
		return
	}
	r.dirty = true
}

// keep reads a value; false when it is gone or can't be read, and then it is
// forgotten.
func keep[V any](from map[string]V, name string, e etcd.Event, value any) bool {
	if e.Deleted || json.Unmarshal(e.Value, value) != nil {
		delete(from, name)
		return false
	}
	return true
}

func (r *rolls) seeRollout(id string, e etcd.Event) {
	if e.Deleted {
		delete(r.written, id)
		return
	}
	w := &writtenRollout{created: e.Created, revision: e.Revision}
	value, problems := cluster.DecodeRollout(id, e.Value)
	if err := cluster.Invalid(problems); err != nil {
		w.problem = brief(err)
		if before := r.written[id]; before != nil && before.created == e.Created {
			w.value = before.value
		}
	} else {
		w.value = value
	}
	r.written[id] = w
}

func (r *rolls) seeStatus(id string, e etcd.Event) {
	r.dirty = true
	var st cluster.RolloutStatus
	if keep(r.statuses, id, e, &st) {
		r.statuses[id] = &st
	}
}

// inherit carries over what a list can't tell.
func (r *rolls) inherit(old *rolls) {
	r.sights, r.dirty = old.sights, true
	for id, w := range r.written {
		if before := old.written[id]; before != nil && before.created == w.created && w.problem != "" {
			w.value = before.value
		}
	}
}

// stir has rollouts looked at when something has happened, or time has passed,
// and any is under way.
func (r *rolls) stir(happened bool) {
	r.dirty = r.dirty || happened && (len(r.cycles) > 0 || r.live() || r.wanted())
}

// live says whether there is a rollout that has not ended.
func (r *rolls) live() bool {
	for id := range r.written {
		if st := r.statuses[id]; st == nil || st.Ended.IsZero() {
			return true
		}
	}
	return false
}

func (r *rolls) wanted() bool {
	for _, a := range r.asks {
		if a.Wanted {
			return true
		}
	}
	return false
}

// expected says that a host may be gone: it was told to boot, or to become
// another release.
func (r *rolls) expected(host string) bool {
	c := r.cycles[host]
	return c != nil && (c.Step == cluster.StepPatch || c.Step == cluster.StepReturn)
}

// patch decides what is next for rollouts.
func (s *snapshot) patch(now time.Time) [][]etcd.Op {
	if !s.rolls.dirty {
		return nil
	}
	d := rollout.Decide(s.picture(now), s.rolls.sights)
	if len(d.Ops) == 0 {
		s.rolls.dirty = false
		return nil
	}
	s.rolls.decided = d
	return [][]etcd.Op{d.Ops}
}

// tell logs what was decided, once it is written.
func (r *rolls) tell(log *slog.Logger) {
	if d := r.decided; len(d.Ops) > 0 {
		level := slog.LevelInfo
		if d.Alert {
			level = slog.LevelWarn
		}
		log.Log(context.Background(), level, "rollout", "decided", d.Why)
	}
	r.decided = rollout.Decision{}
}

// picture is what rollouts are decided by.
func (s *snapshot) picture(now time.Time) *rollout.Picture {
	p := &rollout.Picture{
		Now: now, Revision: s.revision, Statuses: map[string]bool{}, Hosts: map[string]*rollout.Host{},
		Cycles: s.rolls.cycles, Orders: s.rolls.orders, Asks: s.rolls.asks,
	}
	for id, w := range s.rolls.written {
		p.Rollouts = append(p.Rollouts, &rollout.Rollout{ID: id, Revision: w.revision, Rollout: w.value, Problem: w.problem, Status: s.rolls.statuses[id]})
	}
	slices.SortFunc(p.Rollouts, func(a, b *rollout.Rollout) int {
		return cmp.Or(cmp.Compare(s.rolls.written[a.ID].created, s.rolls.written[b.ID].created), cmp.Compare(a.ID, b.ID))
	})
	for id := range s.rolls.statuses {
		p.Statuses[id] = true
	}
	for name, h := range s.hosts {
		p.Hosts[name] = s.pictured(h)
	}
	if s.rolls.live() {
		p.Below = s.below()
	}
	if s.losses.standing {
		p.Braked = "most hosts vanished at once (see " + cluster.HostBrakeKey + ")"
	}
	return p
}

func (s *snapshot) pictured(h *host) *rollout.Host {
	r := &rollout.Host{
		Name: h.name, Presence: h.presence, Back: h.back, Member: h.member,
		Cordon: h.cordon, Drain: h.drain, Known: h.inventory != nil, Placed: len(h.placed), Report: s.rolls.reports[h.name],
		Failed: h.failed,
	}
	switch {
	case h.presence != nil:
		r.Labels = h.presence.Labels
	case h.inventory != nil:
		r.Labels = h.inventory.Labels
	}
	if h.distrust != nil {
		r.Distrust = h.distrust.Reason
	}
	if c := s.rolls.cycles[h.name]; c != nil {
		r.Left = s.left(h)
		if c.Step == cluster.StepDrain && len(r.Left) == 0 {
			r.Running = s.running(h.name)
		}
	}
	return r
}

// left are the instances of a host, and what keeps them there.
func (s *snapshot) left(h *host) (left []rollout.Left) {
	for _, instance := range sorted(h.placed) {
		p := h.placed[instance]
		l := rollout.Left{Instance: instance, Tenant: p.Tenant, Stale: h.outdated(p) != ""}
		if t := s.tenants[p.Tenant]; s.waiting[p.Tenant] && t != nil && t.status != nil {
			for _, reason := range t.status.Reasons {
				if strings.Contains(reason, " waits: ") {
					l.Waits = reason
				}
			}
		}
		left = append(left, l)
	}
	return left
}

// running counts the instances that a host's agent reports.
func (s *snapshot) running(host string) (n int) {
	for _, t := range s.tenants {
		for at := range t.seen {
			if strings.HasPrefix(at, host+"/") {
				n++
			}
		}
	}
	return n
}

// below are the tenants of which fewer instances serve than must.
func (s *snapshot) below() map[string]string {
	all := map[string]string{}
	for name, t := range s.tenants {
		if t.applied == nil || t.applied.err != nil {
			continue
		}
		serving, must := 0, least(t.applied.spec.Replicas)
		for _, p := range t.placed {
			if t.ready(p) {
				serving++
			}
		}
		if serving < must {
			all[name] = fmt.Sprintf("%d of %d", serving, must)
		}
	}
	return all
}
