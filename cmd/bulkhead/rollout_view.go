package main

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// rolloutPrefixes are what rolloutViews reads.
var rolloutPrefixes = []string{
	cluster.RolloutsPrefix, cluster.StatusPrefix, cluster.CyclesPrefix, cluster.AsksPrefix,
	cluster.HostsPrefix, cluster.PlacementsPrefix, cluster.LoadsPrefix,
}

// rolloutView is a rollout and how it goes.
type rolloutView struct {
	ID      string                `json:"id"`
	Rollout cluster.Rollout       `json:"rollout"`
	Status  cluster.RolloutStatus `json:"status"`
	Done    int                   `json:"done"` // hosts that need nothing any more
	Hosts   []rolloutHost         `json:"hosts"`
	Failed  *rolloutFailed        `json:"failed,omitempty"` // nil: it has not begun

	revision, created int64
}

// rolloutHost is a host's way through it.
type rolloutHost struct {
	Host      string            `json:"host"`
	State     string            `json:"state"` // as cluster.HostWaiting and so on
	Step      cluster.CycleStep `json:"step,omitempty"`
	Since     time.Time         `json:"since,omitzero"`         // when the step began
	Took      time.Duration     `json:"took,omitempty"`         // all of it, nanoseconds
	Present   bool              `json:"present"`                // its agent is there
	Instances int               `json:"instances"`              // that it has
	Left      int               `json:"left_to_move,omitempty"` // of them
	InFlight  float64           `json:"in_flight"`              // requests, on average over two seconds
	Failed    *int64            `json:"failed,omitempty"`       // requests since the rollout began; nil: it is not known
	Waiting   []string          `json:"waiting,omitempty"`
	Says      string            `json:"says,omitempty"` // what went wrong, or should be looked at
}

// rolloutViews gathers all rollouts from a view of rolloutPrefixes, the newest
// first.
func rolloutViews(v *view) []*rolloutView {
	var all []*rolloutView
	for key, e := range v.keys {
		n, ok := cluster.SplitKey(key, cluster.RolloutsPrefix, 1)
		if !ok {
			continue
		}
		r := &rolloutView{ID: n[0], Hosts: []rolloutHost{}, revision: e.Revision, created: e.Created}
		r.Rollout, _ = cluster.DecodeRollout(n[0], e.Value)
		r.Status, _ = get[cluster.RolloutStatus](v, cluster.RolloutStatusKey(n[0]))
		r.Status.Phase = cmp.Or(r.Status.Phase, "unseen")
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b *rolloutView) int {
		return cmp.Or(cmp.Compare(b.created, a.created), cmp.Compare(a.ID, b.ID))
	})
	hosts := rolloutHosts(v)
	for _, r := range all {
		r.gather(v, hosts)
	}
	return all
}

// rolloutHosts is what hosts are like, whatever rollout they are in.
func rolloutHosts(v *view) map[string]rolloutHost {
	hosts := map[string]rolloutHost{}
	images := map[string]string{}
	under(v, cluster.HostsPrefix, 1, func(n []string, h cluster.Host, _ etcd.Event) {
		hosts[n[0]] = rolloutHost{Host: n[0], Present: true}
		images[n[0]] = h.Image
	})
	under(v, cluster.CyclesPrefix, 1, func(n []string, c cluster.Cycle, _ etcd.Event) {
		h := hosts[n[0]]
		h.Step, h.Since, h.Waiting, h.Says = c.Step, c.Since, c.Waiting, cmp.Or(c.Stopped, c.Alert)
		hosts[n[0]] = h
	})
	under(v, cluster.PlacementsPrefix, 2, func(n []string, p cluster.Placement, _ etcd.Event) {
		h := hosts[n[0]]
		c, ok := get[cluster.Cycle](v, cluster.CycleKey(n[0]))
		if h.Instances++; ok && (c.Kind == cluster.RolloutOS || c.Kind == cluster.RolloutImage && (h.Step == cluster.StepPatch || p.Image != images[n[0]])) {
			h.Left++
		}
		hosts[n[0]] = h
	})
	under(v, cluster.LoadsPrefix, 1, func(n []string, l cluster.Load, _ etcd.Event) {
		h := hosts[n[0]]
		for _, inFlight := range l.Instances {
			h.InFlight += inFlight
		}
		hosts[n[0]] = h
	})
	return hosts
}

func (r *rolloutView) gather(v *view, hosts map[string]rolloutHost) {
	r.Failed = r.failed(v)
	order := r.Rollout.Hosts
	if len(order) == 0 {
		order = slices.Sorted(maps.Keys(r.Status.Hosts))
	}
	for _, name := range order {
		o, h := r.Status.Hosts[name], hosts[name]
		if c, ok := get[cluster.Cycle](v, cluster.CycleKey(name)); !ok || c.For != r.ID {
			h.Step, h.Since, h.Waiting, h.Says, h.Left = "", time.Time{}, nil, "", 0
		} else {
			h.Took = max(time.Since(c.Begun), 0)
		}
		h.Host, h.State, h.Says = name, cmp.Or(o.State, cluster.HostWaiting), cmp.Or(h.Says, o.Reason)
		h.Took = cmp.Or(o.Took, h.Took)
		if r.Failed != nil {
			if n, known := r.Failed.Hosts[name]; known {
				h.Failed = &n
			}
		}
		if settled(h.State) {
			r.Done++
		}
		r.Hosts = append(r.Hosts, h)
	}
}

func settled(state string) bool {
	return state == cluster.HostDone || state == cluster.HostSkipped || state == cluster.HostUndone
}

func (r *rolloutView) ended() bool { return !r.Status.Ended.IsZero() }

// what says in words what is rolled.
func (r *rolloutView) what() string {
	v := r.Rollout
	return strings.TrimSpace(string(v.Kind) + " " + v.Action + brief(v.Image) + brief(v.Release))
}

// brief is a digest's beginning, which is enough for people.
func brief(digest string) string {
	const shown = len("sha256:") + 12
	return digest[:min(len(digest), shown)]
}
