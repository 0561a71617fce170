package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// rolloutFailed are the requests that the platform has failed since a rollout
// began, until it ended, at any host's proxy.
type rolloutFailed struct {
	Requests int64            `json:"requests"`          // of all hosts that are known
	Hosts    map[string]int64 `json:"hosts"`             // by the host whose proxy it was
	Unknown  []string         `json:"unknown,omitempty"` // hosts of which it is not known
}

// failed gathers them from what the rollout's status has noted, and from what
// hosts that are there have counted since; nil: it has not begun.
func (r *rolloutView) failed(v *view) *rolloutFailed {
	if r.Status.Begun.IsZero() {
		return nil
	}
	all := &rolloutFailed{Hosts: map[string]int64{}}
	for host, noted := range r.Status.Failed {
		if l, ok := get[cluster.Load](v, cluster.LoadKey(host)); ok && l.Failed != nil && !r.ended() {
			noted = noted.Follow(*l.Failed)
			r.Status.Failed[host] = noted // as it will be, so that noting it is no news
		}
		all.Hosts[host] = noted.Requests
		all.Requests += noted.Requests
	}
	others := map[string]bool{}
	for host := range r.Status.Hosts {
		others[host] = true
	}
	if !r.ended() {
		under(v, cluster.HostsPrefix, 1, func(n []string, _ cluster.Host, _ etcd.Event) { others[n[0]] = true })
	}
	maps.DeleteFunc(others, func(host string, _ bool) bool { _, known := all.Hosts[host]; return known })
	all.Unknown = slices.Sorted(maps.Keys(others))
	return all
}

// text says in words how many there were, and where.
func (f *rolloutFailed) text() string {
	var at []string
	for _, host := range slices.Sorted(maps.Keys(f.Hosts)) {
		if n := f.Hosts[host]; n > 0 {
			at = append(at, fmt.Sprintf("%s %d", host, n))
		}
	}
	says := fmt.Sprintf("%d requests since the start", f.Requests)
	if f.Requests == 1 {
		says = "1 request since the start"
	}
	switch {
	case len(f.Hosts) == 0:
		return "not known of " + several(f.Unknown)
	case len(at) > 0:
		says += ": " + several(at)
	}
	if len(f.Unknown) > 0 {
		says += "; not known of " + several(f.Unknown)
	}
	return says
}

// several lists the first of many.
func several(all []string) string {
	const most = 10
	if more := len(all) - most; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(all[:most], ", "), more)
	}
	return strings.Join(all, ", ")
}
