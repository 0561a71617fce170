package sim

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/cluster"
)

// software is what a host has of what rollouts change, and how far it is with
// its order. It outlives a boot.
type software struct {
	image, release string
	report         cluster.Report
	due            time.Time   // when what it does is done
	granted        int         // the boot during which it got its turn
	asks           atomic.Bool // it wants its turn, or has it
}

// plugs are hosts that boot by themselves: what goes off comes on.
type plugs struct {
	mu sync.Mutex
	by map[*host]time.Time
}

// switchOff takes a host's power away, from within its own agent too.
func (w *world) switchOff(h *host, until time.Time) {
	w.powered.mu.Lock()
	defer w.powered.mu.Unlock()
	if w.powered.by[h].IsZero() {
		w.powered.by[h] = until
	}
}

// switchOn boots the hosts that are due; the main goroutine's.
func (w *world) switchOn() {
	w.powered.mu.Lock()
	var due []*host
	for _, h := range w.hosts {
		if at := w.powered.by[h]; !at.IsZero() && !time.Now().Before(at) && h.cancel != nil {
			due = append(due, h)
			delete(w.powered.by, h)
		}
	}
	w.powered.mu.Unlock()
	for _, h := range due {
		w.say("host %s boots", h.name)
		h.off()
		time.Sleep(w.noise.between(time.Second, 40*time.Second)) // it takes its time
		h.boot()
	}
}

// present says how the host is.
func (a *agent) present() {
	a.mu.Lock()
	defer a.mu.Unlock()
	value, _ := json.Marshal(cluster.Host{
		Name: a.name, Capacity: a.capacity, Cores: a.capacity.CPU, Labels: a.labels, Init: "systemd",
		Image: orElse(a.soft.image, "sha256:image"), Versions: map[string]string{cluster.Release: orElse(a.soft.release, "sha256:release")}, Boot: fmt.Sprint(a.boots), Member: a.member,
		Paths: cluster.Paths{Run: "/run/bulkhead", State: "/var/lib/bulkhead", Runner: "/opt/runner-" + strings.TrimPrefix(orElse(a.soft.release, "sha256:release"), "sha256:")}, ProxyGID: 1, Address: a.name + ":8443", Since: a.since,
	})
	a.presence.Set(cluster.HostKey(a.name), value)
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// obey goes on with what the host is told to do, and returns in how long to
// look again.
func (a *agent) obey(ctx context.Context, now time.Time) time.Duration {
	o, r := a.order, &a.soft.report
	a.takeTurn(ctx, now)
	if o.ID == "" {
		return time.Minute
	}
	if r.Order != o.ID {
		*r = cluster.Report{Order: o.ID, State: cluster.OrderDoing, Left: o.Leave}
		a.soft.due = now.Add(a.w.noise.between(0, 10*time.Second))
		if o.Action == "" && o.Image == "" && o.Release == "" {
			r.State = cluster.OrderDone
		} else if a.w.noise.one(15) {
			r.State, r.Error = cluster.OrderFailed, "the simulation wants it"
		}
		a.tell(ctx)
	}
	if r.State != cluster.OrderDoing {
		return time.Minute
	}
	if now.Before(a.soft.due) {
		return max(a.soft.due.Sub(now), time.Millisecond)
	}
	switch {
	case o.Action != "" && r.Error == "": // it boots, and knows afterwards that it did
		r.Error = fmt.Sprint(a.boots)
		a.w.switchOff(a.host, now)
		return time.Minute
	case o.Action != "" && r.Error == fmt.Sprint(a.boots):
		return time.Minute
	case o.Image != "":
		a.soft.image = o.Image
	case o.Release != "":
		a.soft.release = o.Release
	}
	r.State, r.Error = cluster.OrderDone, ""
	a.present()
	a.tell(ctx)
	return time.Minute
}

// tell writes the report, again until it is written.
func (a *agent) tell(ctx context.Context) {
	value, _ := json.Marshal(a.soft.report)
	a.write(ctx, clientv3.OpPut(cluster.ReportKey(a.name), string(value)))
}

func (a *agent) write(ctx context.Context, op clientv3.Op) {
	for ctx.Err() == nil {
		try, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err := a.cli.Do(try, op)
		cancel()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// takeTurn boots a host that has its turn, and gives it back after that.
func (a *agent) takeTurn(ctx context.Context, now time.Time) {
	switch {
	case !a.soft.asks.Load():
	case a.order.Granted && a.soft.granted == 0:
		a.soft.granted = a.boots
		a.w.switchOff(a.host, now.Add(a.w.noise.between(0, 2*time.Minute)))
	case a.soft.granted != 0 && a.soft.granted != a.boots:
		a.soft.granted = 0
		a.ask(ctx, false)
		a.soft.asks.Store(false)
	}
}

func (a *agent) ask(ctx context.Context, wanted bool) {
	value, _ := json.Marshal(cluster.Ask{Group: a.group(), ID: a.name, Wanted: wanted, Time: time.Now().UTC()})
	a.write(ctx, clientv3.OpPut(cluster.AskKey(a.name), string(value)))
}

// group is that of hosts that take turns.
func (h *host) group() string { return "zone-" + h.labels["zone"] }
