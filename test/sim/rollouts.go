package sim

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/cluster"
	"bulkhead/internal/etcd/etcdmem"
)

func (w *world) writeRollout(id string, r cluster.Rollout) {
	value, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	w.write(clientv3.OpPut(cluster.RolloutKey(id), string(value)))
}

func (w *world) startRollout() (func(), time.Duration) {
	if len(w.rollouts) >= 40 {
		return nil, 0
	}
	id, digest := fmt.Sprintf("r%d", len(w.rollouts)), fmt.Sprintf("sha256:%064x", w.rng.IntN(3))
	r := cluster.DefaultRollout()
	r.Pace = cluster.Pace{AtOnce: 1 + w.rng.IntN(2), Canary: 1, Watch: cluster.Duration(w.span(time.Second, time.Minute))}
	switch w.rng.IntN(3) {
	case 0:
		r.Kind = cluster.RolloutOS
	case 1:
		r.Kind, r.Image = cluster.RolloutImage, digest
	default:
		r.Kind, r.Release = cluster.RolloutAgent, digest
	}
	if w.rng.IntN(3) > 0 {
		r.Labels = map[string]string{"zone": string(rune('a' + w.rng.IntN(3)))}
	}
	w.say("rollout %s: %s, %d at once, %v", id, r.Kind, r.Pace.AtOnce, r.Labels)
	w.rollouts = append(w.rollouts, id)
	w.writeRollout(id, r)
	return nil, 0
}

// changeRollout does what operators do to a rollout.
func (w *world) changeRollout() (func(), time.Duration) {
	if len(w.rollouts) == 0 {
		return nil, 0
	}
	id := pick(w, w.rollouts)
	w.check.mu.Lock()
	r, there := w.check.turns.rollouts[id]
	w.check.mu.Unlock()
	if !there {
		return nil, 0
	}
	switch w.rng.IntN(6) {
	case 0:
		w.say("rollout %s is removed", id)
		w.write(clientv3.OpDelete(cluster.RolloutKey(id)))
		return nil, 0
	case 1:
		r.Aborted = !r.Aborted
	case 2:
		r.Undo = r.Kind != cluster.RolloutOS && !r.Undo
	case 3:
		r.Paused = !r.Paused
	case 4:
		h := pick(w, w.hosts)
		w.say("host %s has its turn taken away", h.name)
		w.write(clientv3.OpDelete(cluster.CycleKey(h.name)))
		return nil, 0
	} // or it is written again, which resumes it
	w.say("rollout %s: paused %v, aborted %v, undo %v", id, r.Paused, r.Aborted, r.Undo)
	w.writeRollout(id, r)
	return nil, 0
}

// askForTurn has a host want to boot by itself.
func (w *world) askForTurn() (func(), time.Duration) {
	h := pick(w, w.hosts)
	if h.soft.asks.Load() || h.cancel == nil {
		return nil, 0
	}
	w.say("host %s asks for its turn", h.name)
	h.soft.asks.Store(true)
	value, _ := json.Marshal(cluster.Ask{Group: h.group(), ID: h.name, Wanted: true, Time: time.Now().UTC()})
	w.write(clientv3.OpPut(cluster.AskKey(h.name), string(value)))
	return nil, 0
}

// persist does what an operator does in the end: resumes what has stopped.
func (w *world) persist() {
	w.check.mu.Lock()
	known := map[string]cluster.Rollout{}
	for id, r := range w.check.turns.rollouts {
		known[id] = r
	}
	w.check.mu.Unlock()
	for _, id := range w.rollouts {
		r, there := known[id]
		if !there {
			continue
		}
		var st cluster.RolloutStatus
		w.store.Look(func(s *etcdmem.Snapshot) { _ = json.Unmarshal(s.Get(cluster.RolloutStatusKey(id)), &st) })
		if r.Paused || st.Phase == cluster.RolloutStopped {
			w.say("rollout %s is resumed: it was %s, %s", id, st.Phase, st.Reason)
			r.Paused = false
			w.writeRollout(id, r)
		}
	}
}

// rolloutsLeft says which rollouts and cycles have not ended. One that is to
// be undone and never began says so, and that is all that it does.
func (w *world) rolloutsLeft(s *etcdmem.Snapshot) (left []string) {
	for _, id := range w.rollouts {
		if s.Get(cluster.RolloutKey(id)) == nil {
			continue
		}
		var st cluster.RolloutStatus
		_ = json.Unmarshal(s.Get(cluster.RolloutStatusKey(id)), &st)
		if st.Ended.IsZero() && !strings.Contains(st.Reason, "nothing to undo") {
			left = append(left, fmt.Sprintf("rollout %s %s is %s", id, s.Get(cluster.RolloutKey(id)), s.Get(cluster.RolloutStatusKey(id))))
		}
	}
	for _, prefix := range []string{cluster.CyclesPrefix, cluster.OrdersPrefix, cluster.DrainsPrefix, cluster.CordonsPrefix} {
		s.Each(prefix, func(key string, value []byte) { left = append(left, fmt.Sprintf("%s is left: %s", key, value)) })
	}
	return left
}

// turns are the cycles that hosts are in.
type turns struct {
	cycles   map[string]cluster.Cycle
	rollouts map[string]cluster.Rollout
}

// turn takes a change of them in, and fails when more hosts have their turn
// than may.
func (c *checker) turn(kind, name string, e *mvccpb.Event, gone bool, revision int64) {
	if kind == "rollouts" {
		delete(c.turns.rollouts, name)
		if r, problems := cluster.DecodeRollout(name, e.Kv.Value); !gone && cluster.Invalid(problems) == nil {
			c.turns.rollouts[name] = r
		}
		return
	}
	_, was := c.turns.cycles[name]
	if delete(c.turns.cycles, name); gone {
		c.done++
		return
	}
	var cycle cluster.Cycle
	if err := json.Unmarshal(e.Kv.Value, &cycle); err != nil {
		c.failed("revision %d: %s cannot be read: %v", revision, e.Kv.Key, err)
	}
	c.turns.cycles[name] = cycle
	for tenant, t := range c.tenants {
		for at := range t.placed {
			if cycle.Step == cluster.StepPatch && cycle.Kind == cluster.RolloutOS && cycle.Stopped == "" && strings.HasPrefix(at, name+"/") {
				c.failed("revision %d: host %s is told to boot while it has %s of tenant %s", revision, name, at, tenant)
			}
		}
	}
	if !was {
		c.mayBegin(name, cycle, revision)
	}
}

// mayBegin fails when a host begins its cycle out of turn.
func (c *checker) mayBegin(name string, cycle cluster.Cycle, revision int64) {
	limit, group, members := 1, 0, 0
	if r, ok := c.turns.rollouts[cycle.For]; ok {
		limit = r.Pace.AtOnce
	}
	for other, o := range c.turns.cycles {
		if o.Group == cycle.Group {
			group++
		}
		if c.w.member(other) {
			members++
		}
	}
	if group > limit {
		c.failed("revision %d: %s is host %d of group %s in a cycle, of at most %d", revision, name, group, cycle.Group, limit)
	}
	if c.w.member(name) && members > 1 {
		c.failed("revision %d: with %s %d members of etcd are in cycles", revision, name, members)
	}
}

func (w *world) member(host string) bool {
	for _, h := range w.hosts {
		if h.name == host {
			return h.member
		}
	}
	return false
}
