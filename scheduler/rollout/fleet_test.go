package rollout

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// fleet is a cluster in memory: keys with revisions, hosts that do what they
// are told, and a clock that moves a second at a time.
type fleet struct {
	t        *testing.T
	now      time.Time
	revision int64
	keys     map[string]entry
	hosts    map[string]*fake
	below    map[string]string
	sights   *Sights
	restarts bool // another leader takes over after every write
	trace    []string
	alerts   []string
	done     func(*fleet) // after each second, if set
}

type entry struct {
	value             string
	created, modified int64
}

// fake is a host with its agent, and what it does wrong.
type fake struct {
	name           string
	present        bool
	back           time.Time
	boot           int
	image, release string
	member         bool
	unready        string
	distrust       string
	left           []Left
	running        int
	failed         *int64 // requests, as it counts them; told while it is present
	carried        string // the order that it carried out last
	away           int    // seconds until it is back; 0: it isn't away

	stuck, waits, deaf, fails, sameBoot, neverBack, flaps, client bool
}

func newFleet(t *testing.T, names ...string) *fleet {
	f := &fleet{
		t: t, now: time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC), keys: map[string]entry{}, hosts: map[string]*fake{},
		below: map[string]string{}, sights: NewSights(),
	}
	for _, name := range names {
		h := &fake{name: name, present: true, back: f.now.Add(-time.Hour), image: old, release: old}
		h.left = []Left{{Instance: "acme." + name[1:], Tenant: "acme"}}
		f.hosts[name] = h
	}
	return f
}

var old, fresh = "sha256:" + strings.Repeat("0", 64), "sha256:" + strings.Repeat("f", 64)

func (f *fleet) put(key string, value any) {
	text, ok := value.(string)
	if !ok {
		text = string(marshalled(value))
	}
	f.apply(etcd.Put(key, []byte(text)))
}

// apply makes a transaction.
func (f *fleet) apply(ops ...etcd.Op) {
	f.t.Helper()
	f.revision++
	written := map[string]bool{}
	for _, op := range ops {
		if op.Check {
			if f.keys[op.Key].modified != op.Revision {
				f.t.Fatalf("%s is as of %d, and was to be as of %d", op.Key, f.keys[op.Key].modified, op.Revision)
			}
			continue
		}
		if written[op.Key] {
			f.t.Fatalf("one transaction writes %s twice: etcd refuses that", op.Key)
		}
		written[op.Key] = true
		e := f.keys[op.Key]
		if e.created == 0 {
			e.created = f.revision
		}
		e.value, e.modified = string(op.Value), f.revision
		if f.keys[op.Key] = e; op.Delete {
			delete(f.keys, op.Key)
		}
	}
}

func read[T any](f *fleet, key string) (v T, e entry) {
	if e = f.keys[key]; e.created > 0 {
		if err := json.Unmarshal([]byte(e.value), &v); err != nil {
			f.t.Fatalf("%s: %v", key, err)
		}
	}
	return v, e
}

func (f *fleet) under(prefix string) (names []string) {
	for key := range f.keys {
		if name, ok := strings.CutPrefix(key, prefix); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// picture is made of keys and hosts alone, as a scheduler does that has just
// been elected.
func (f *fleet) picture() *Picture {
	p := &Picture{
		Now: f.now, Revision: f.revision, Statuses: map[string]bool{}, Hosts: map[string]*Host{}, Cycles: map[string]*Cycle{},
		Orders: map[string]bool{}, Asks: map[string]*Ask{}, Below: f.below,
	}
	for _, id := range f.under(cluster.RolloutsPrefix) {
		e := f.keys[cluster.RolloutKey(id)]
		v, problems := cluster.DecodeRollout(id, []byte(e.value))
		r := &Rollout{ID: id, Revision: e.modified, Rollout: v}
		if err := cluster.Invalid(problems); err != nil {
			r.Problem, r.Rollout = err.Error(), cluster.Rollout{}
		}
		if st, e := read[cluster.RolloutStatus](f, cluster.RolloutStatusKey(id)); e.created > 0 {
			r.Status = &st
		}
		p.Rollouts = append(p.Rollouts, r)
	}
	slices.SortFunc(p.Rollouts, func(a, b *Rollout) int {
		return int(f.keys[cluster.RolloutKey(a.ID)].created - f.keys[cluster.RolloutKey(b.ID)].created)
	})
	for _, id := range f.under(cluster.StatusPrefix + "rollouts/") {
		p.Statuses[id] = true
	}
	for _, name := range f.under(cluster.CyclesPrefix) {
		c, e := read[cluster.Cycle](f, cluster.CycleKey(name))
		p.Cycles[name] = &Cycle{c, e.created, e.modified}
	}
	for _, name := range f.under(cluster.OrdersPrefix) {
		p.Orders[name] = true
	}
	for _, name := range f.under(cluster.AsksPrefix) {
		a, e := read[cluster.Ask](f, cluster.AskKey(name))
		p.Asks[name] = &Ask{a, e.created}
	}
	for name, h := range f.hosts {
		p.Hosts[name] = f.pictured(h)
	}
	return p
}

func (f *fleet) pictured(h *fake) *Host {
	x := &Host{Name: h.name, Member: h.member, Back: h.back, Distrust: h.distrust, Left: h.left, Placed: len(h.left), Running: h.running}
	if h.present {
		x.Presence = &cluster.Host{Name: h.name, Boot: fmt.Sprint(h.boot), Image: h.image, Address: h.name + ":8443", Versions: map[string]string{cluster.Release: h.release}, Unready: h.unready}
	}
	if h.present {
		x.Failed = h.failed
	}
	x.Report, _ = read[cluster.Report](f, cluster.ReportKey(h.name))
	for key, at := range map[string]**string{cluster.CordonKey(h.name): &x.Cordon, cluster.DrainKey(h.name): &x.Drain} {
		if e := f.keys[key]; e.created > 0 {
			*at = &e.value
		}
	}
	return x
}

// decide makes decisions until there is none to make.
func (f *fleet) decide() {
	f.t.Helper()
	for n := 0; ; n++ {
		if f.restarts {
			f.sights.asked = map[string]bool{}
		}
		d := Decide(f.picture(), f.sights)
		if d.none() {
			return
		}
		if n == 50 {
			f.t.Fatalf("decisions do not come to rest: %s", d.Why)
		}
		f.apply(d.Ops...)
		if d.Alert {
			f.alerts = append(f.alerts, d.Why)
		}
		if f.restarts {
			f.sights = NewSights()
		}
		for _, op := range d.Ops {
			if name, ok := strings.CutPrefix(op.Key, cluster.CyclesPrefix); ok && !op.Check {
				f.note(name, op)
			}
		}
	}
}

// note keeps the steps that cycles were in.
func (f *fleet) note(name string, op etcd.Op) {
	step := cluster.StepDone
	if !op.Delete {
		c, _ := read[cluster.Cycle](f, op.Key)
		if step = c.Step; c.Stopped != "" {
			step += " stopped"
		}
	}
	if line := name + " " + string(step); len(f.trace) == 0 || f.trace[len(f.trace)-1] != line {
		f.trace = append(f.trace, line)
	}
}

// pass lets so many seconds go by.
func (f *fleet) pass(seconds int) {
	f.t.Helper()
	for range seconds {
		f.now = f.now.Add(time.Second)
		for _, name := range slices.Sorted(maps.Keys(f.hosts)) {
			f.act(f.hosts[name])
		}
		f.decide()
		if f.done != nil {
			f.done(f)
		}
	}
}

// until lets time go by until something is so, which must be soon.
func (f *fleet) until(what string, is func() bool) {
	f.t.Helper()
	for n := 0; !is(); n++ {
		if n == 4000 {
			f.t.Fatalf("it never comes to this: %s\n%s", what, f.dump())
		}
		f.pass(1)
	}
}

func (f *fleet) dump() string {
	var lines []string
	for _, key := range slices.Sorted(maps.Keys(f.keys)) {
		lines = append(lines, key+" "+f.keys[key].value)
	}
	return strings.Join(append(lines, f.trace...), "\n")
}

func (f *fleet) status(id string) cluster.RolloutStatus {
	st, _ := read[cluster.RolloutStatus](f, cluster.RolloutStatusKey(id))
	return st
}

func (f *fleet) phase(id, want string) {
	f.t.Helper()
	f.until("rollout "+id+" is "+want, func() bool { return f.status(id).Phase == want })
}

func (f *fleet) step(host string) cluster.CycleStep {
	c, _ := read[cluster.Cycle](f, cluster.CycleKey(host))
	return c.Step
}

// act is a host's agent, and its instances.
func (f *fleet) act(h *fake) {
	order, _ := read[cluster.Order](f, cluster.OrderKey(h.name))
	report, _ := read[cluster.Report](f, cluster.ReportKey(h.name))
	if h.away > 0 {
		if h.away--; h.away == 0 {
			h.present, h.back = true, f.now
			if !h.sameBoot {
				h.boot++
			}
		}
		return
	}
	if h.flaps && f.step(h.name) == cluster.StepSteady {
		h.present, h.back = !h.present, f.now
	}
	if !h.present || h.deaf {
		return
	}
	f.leaveOrReplace(h)
	if order.ID == "" {
		return
	}
	said := func(state, why string, left bool) {
		f.put(cluster.ReportKey(h.name), cluster.Report{Order: order.ID, State: state, Error: why, Left: left, Time: f.now})
	}
	switch {
	case report.Order != order.ID && h.fails && (order.Action != "" || order.Image != "" || order.Release != ""):
		said(cluster.OrderFailed, "it is out of order", order.Leave)
	case report.Order != order.ID && order.Leave && order.Action == "":
		said(cluster.OrderDone, "", true)
	case report.Order != order.ID:
		said(cluster.OrderDoing, "", order.Leave)
	case report.State == cluster.OrderDoing:
		if h.carried != order.ID {
			h.carried = order.ID
			f.carryOut(h, order)
		}
		if h.present && !h.sameBoot {
			said(cluster.OrderDone, "", order.Leave)
		}
	}
	if order.Granted && h.client && f.step(h.name) == cluster.StepPatch && report.Order == order.ID {
		h.present, h.away = false, 5
	}
}

func (f *fleet) carryOut(h *fake, o cluster.Order) {
	switch {
	case o.Action != "":
		h.present = false
		if h.away = 5; h.neverBack {
			h.away = 0
		}
	case o.Image != "":
		h.image = o.Image
		for i := range h.left {
			h.left[i].Stale = true
		}
	case o.Release != "":
		h.release = o.Release
	}
}

// leaveOrReplace is what planner and agent do for a drain, or another image.
func (f *fleet) leaveOrReplace(h *fake) {
	for i := range h.left {
		if h.left[i].Waits = ""; h.waits {
			h.left[i].Waits = "acme.9 waits: no host has 128MiB"
		}
	}
	if h.stuck || h.waits {
		return
	}
	_, drained := f.keys[cluster.DrainKey(h.name)]
	switch {
	case drained && len(h.left) > 0:
		h.left, h.running = nil, 1
	case drained:
		h.running = 0
	default:
		for i := range h.left {
			h.left[i].Stale = false
		}
	}
}
