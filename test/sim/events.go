package sim

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/cluster"
)

// event is something that can happen, how often against the others, and what
// ends it.
type event struct {
	weight int
	do     func(*world) (undo func(), after time.Duration)
}

// events are all that happens in a world.
var events = []event{
	{10, (*world).putTenant},
	{6, (*world).changeTenant},
	{3, (*world).removeTenant},
	{8, (*world).deploy},
	{6, (*world).rush},
	{4, (*world).losePower},
	{4, (*world).killAgent},
	{4, (*world).cutHost},
	{4, (*world).mark},
	{5, (*world).startRollout},
	{4, (*world).changeRollout},
	{5, (*world).askForTurn},
	{3, (*world).killBrain},
	{2, (*world).cutBrain},
	{1, (*world).loseEtcd},
	{2, (*world).compact},
}

// live lets things happen for as long as the world is to last, then mends
// all that is broken.
func (w *world) live() {
	total := 0
	for _, e := range events {
		total += e.weight
	}
	for range w.size.tenants / 2 {
		w.putTenant()
	}
	type undo struct {
		at time.Time
		do func()
	}
	var undos []undo
	end := w.begun.Add(w.size.last)
	for time.Now().Before(end) && w.fine() {
		time.Sleep(time.Duration(w.rng.Int64N(int64(40 * time.Second))))
		now := time.Now()
		undos = slices.DeleteFunc(undos, func(u undo) bool {
			if now.Before(u.at) {
				return false
			}
			u.do()
			return true
		})
		w.switchOn()
		w.lookAtAll()
		pick := w.rng.IntN(total)
		for _, e := range events {
			if pick -= e.weight; pick < 0 {
				if do, after := e.do(w); do != nil {
					undos = append(undos, undo{now.Add(after), do})
				}
				break
			}
		}
	}
	for _, u := range undos {
		u.do()
	}
	w.say("all is mended")
}

// span is a time between the two, the long ones rarer.
func (w *world) span(low, high time.Duration) time.Duration {
	f := w.rng.Float64()
	return low + time.Duration(f*f*float64(high-low))
}

func pick[T any](w *world, from []T) T { return from[w.rng.IntN(len(from))] }

// some tenant; "" when there is none.
func (w *world) some() string {
	names := slices.Sorted(maps.Keys(w.tenants))
	if len(names) == 0 {
		return ""
	}
	return pick(w, names)
}

// write does what an operator does: again, until it is done.
func (w *world) write(ops ...clientv3.Op) int64 {
	for {
		r, err := w.operator.Txn(context.Background()).Then(ops...).Commit()
		if err == nil {
			return r.Header.Revision
		}
		if !w.down {
			w.check.fail("the operator cannot write: %v", err)
			return 0
		}
		w.loseEtcdNoMore()
	}
}

func (w *world) spec() cluster.Spec {
	spec := cluster.DefaultSpec()
	spec.Keys = []cluster.Key{{KID: "k", Alg: "HS256", Secret: "0123456789abcdef0123456789abcdef"}}
	spec.Replicas.Min = w.rng.IntN(4)
	spec.Replicas.Max = max(1, spec.Replicas.Min) + w.rng.IntN(4)
	spec.Replicas.Concurrency = 10
	spec.Resources.Memory = cluster.Bytes(64<<20) << w.rng.IntN(4)
	spec.Resources.CPU = 0.25 * float64(1+w.rng.IntN(4))
	switch w.rng.IntN(4) {
	case 0:
		spec.Placement.Spread = "zone"
	case 1:
		spec.Placement.Labels = map[string]string{"zone": string(rune('a' + w.rng.IntN(3)))}
	}
	return spec
}

func (w *world) put(tenant string, spec cluster.Spec) {
	value, err := json.Marshal(spec)
	if err != nil {
		panic(err)
	}
	w.write(clientv3.OpPut(cluster.TenantKey(tenant), string(value)))
	if w.tenants[tenant] == nil {
		w.tenants[tenant] = &wanted{functions: map[string]int64{}}
	}
	w.tenants[tenant].spec = spec
}

func (w *world) putTenant() (func(), time.Duration) {
	if len(w.tenants) >= w.size.tenants {
		return nil, 0
	}
	name := fmt.Sprintf("t%d", w.rng.IntN(4*w.size.tenants))
	if w.tenants[name] == nil {
		spec := w.spec()
		w.say("tenant %s is registered: %d to %d of %s and %g cores, %v", name, spec.Replicas.Min, spec.Replicas.Max, spec.Resources.Memory, spec.Resources.CPU, spec.Placement)
		w.put(name, spec)
	}
	return nil, 0
}

func (w *world) changeTenant() (func(), time.Duration) {
	name := w.some()
	if name == "" {
		return nil, 0
	}
	if w.rng.IntN(5) == 0 {
		w.say("tenant %s gets a spec that is not valid", name)
		w.write(clientv3.OpPut(cluster.TenantKey(name), `{"keys": 3}`))
		spec := w.tenants[name].spec
		return func() {
			if t := w.tenants[name]; t != nil {
				w.put(name, spec)
			}
		}, w.span(time.Second, 5*time.Minute)
	}
	spec := w.spec()
	w.say("tenant %s is changed: %d to %d of %s and %g cores, %v", name, spec.Replicas.Min, spec.Replicas.Max, spec.Resources.Memory, spec.Resources.CPU, spec.Placement)
	w.put(name, spec)
	return nil, 0
}

func (w *world) removeTenant() (func(), time.Duration) {
	if name := w.some(); name != "" {
		w.say("tenant %s is removed", name)
		w.write(clientv3.OpDelete(cluster.TenantKey(name)), clientv3.OpDelete(cluster.AppliedKey(name)), clientv3.OpDelete(cluster.TenantFunctions(name), clientv3.WithPrefix()))
		w.check.setLoad(name, 0)
		delete(w.tenants, name)
	}
	return nil, 0
}

func (w *world) deploy() (func(), time.Duration) {
	tenant := w.some()
	if tenant == "" {
		return nil, 0
	}
	function := pick(w, []string{"hello", "pay", "ship"})
	t := w.tenants[tenant]
	if t.functions[function] > 0 && w.rng.IntN(3) == 0 {
		w.say("%s of tenant %s is deleted", function, tenant)
		w.write(clientv3.OpDelete(cluster.FunctionKey(tenant, function)))
		delete(t.functions, function)
		return nil, 0
	}
	w.say("%s of tenant %s is deployed", function, tenant)
	value, _ := json.Marshal(cluster.Function{File: function + ".js", Code: fmt.Sprint(w.rng.Int())})
	t.functions[function] = w.write(clientv3.OpPut(cluster.FunctionKey(tenant, function), string(value)))
	return nil, 0
}

// rush gives a tenant something to do.
func (w *world) rush() (func(), time.Duration) {
	tenant := w.some()
	if tenant == "" {
		return nil, 0
	}
	load := float64(w.rng.IntN(60))
	w.say("tenant %s has %g requests in flight", tenant, load)
	w.check.setLoad(tenant, load)
	return func() { w.check.setLoad(tenant, 0) }, w.span(10*time.Second, 10*time.Minute)
}

func (w *world) losePower() (func(), time.Duration) {
	h := pick(w, w.hosts)
	if h.cancel == nil {
		return nil, 0
	}
	w.say("host %s loses power", h.name)
	h.off()
	h.crashed = true
	return func() {
		w.say("host %s has power again", h.name)
		if h.cancel == nil {
			h.boot()
		}
	}, w.span(5*time.Second, 10*time.Minute)
}

func (w *world) killAgent() (func(), time.Duration) {
	h := pick(w, w.hosts)
	if h.cancel == nil {
		return nil, 0
	}
	w.say("the agent of host %s is killed", h.name)
	h.killAgent()
	return func() {
		w.say("the agent of host %s runs again", h.name)
		h.startAgent()
	}, w.span(0, 2*time.Minute)
}

func (w *world) cutHost() (func(), time.Duration) {
	h := pick(w, w.hosts)
	if h.cut {
		return nil, 0
	}
	w.say("host %s can't reach etcd", h.name)
	h.cut = true
	h.conn.Cut()
	return func() {
		w.say("host %s reaches etcd", h.name)
		h.cut = false
		h.conn.Mend()
	}, w.span(time.Second, 10*time.Minute)
}

// mark cordons or drains a host.
func (w *world) mark() (func(), time.Duration) {
	h := pick(w, w.hosts)
	if h.marked != "" {
		return nil, 0
	}
	key := cluster.CordonKey(h.name)
	if h.marked = "cordoned"; w.rng.IntN(2) == 0 {
		h.marked, key = "drained", cluster.DrainKey(h.name)
	}
	w.say("host %s is %s", h.name, h.marked)
	w.write(clientv3.OpPut(key, "the simulation wants it"))
	return func() {
		w.say("host %s is %s no more", h.name, h.marked)
		w.write(clientv3.OpDelete(key))
		h.marked = ""
	}, w.span(30*time.Second, 15*time.Minute)
}

func (w *world) killBrain() (func(), time.Duration) {
	b := pick(w, w.brains)
	if b.cancel == nil {
		return nil, 0
	}
	w.say("scheduler %s is killed", b.name)
	b.kill()
	return func() {
		w.say("scheduler %s runs again", b.name)
		b.start()
	}, w.span(time.Second, 3*time.Minute)
}

func (w *world) cutBrain() (func(), time.Duration) {
	b := pick(w, w.brains)
	if b.cancel == nil {
		return nil, 0
	}
	conn := b.conn
	w.say("scheduler %s can't reach etcd", b.name)
	conn.Cut()
	return func() {
		w.say("scheduler %s reaches etcd", b.name)
		conn.Mend()
	}, w.span(time.Second, 3*time.Minute)
}

func (w *world) loseEtcd() (func(), time.Duration) {
	if w.down {
		return nil, 0
	}
	w.say("etcd is gone")
	w.down = true
	w.store.Down()
	return w.loseEtcdNoMore, w.span(time.Second, 5*time.Minute)
}

func (w *world) loseEtcdNoMore() {
	if w.down {
		w.say("etcd is back")
		w.down = false
		w.store.Up()
	}
}

func (w *world) compact() (func(), time.Duration) {
	revision := w.store.Revision() - int64(w.rng.IntN(50))
	w.say("etcd forgets what was before revision %d", revision)
	_ = w.store.Compact(revision) // or there is nothing to forget
	return nil, 0
}
