package scheduler

import (
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
)

// index finds hosts by their labels. It lists present hosts only, in the
// order of their names, and is made again when a host comes, goes or changes.
type index struct {
	all    []*host
	labels map[string]map[string][]*host
}

func (s *snapshot) indexed() *index {
	if s.index != nil {
		return s.index
	}
	x := &index{labels: map[string]map[string][]*host{}}
	for _, name := range slices.Sorted(maps.Keys(s.hosts)) {
		h := s.hosts[name]
		if h.presence == nil {
			continue
		}
		x.all = append(x.all, h)
		for label, value := range h.presence.Labels {
			if x.labels[label] == nil {
				x.labels[label] = map[string][]*host{}
			}
			x.labels[label][value] = append(x.labels[label][value], h)
		}
	}
	s.index = x
	markOdd(x.all)
	return x
}

// markOdd finds the hosts whose image and version are not those that most
// have: when all else is equal, an instance goes where its like has proved
// itself. Of equally common ones the later by name counts.
func markOdd(hosts []*host) {
	kits, most := map[string]int{}, ""
	for _, h := range hosts {
		kits[h.kit()]++
	}
	for kit, n := range kits {
		if n > kits[most] || n == kits[most] && kit > most {
			most = kit
		}
	}
	for _, h := range hosts {
		h.odd = h.kit() != most
	}
}

// kit is what of a host's software decides how instances fare.
func (h *host) kit() string { return h.presence.Versions["bulkhead"] + " " + h.presence.Image }

// with returns the shortest list that holds all hosts with the labels; others
// may be on it.
func (x *index) with(labels map[string]string) []*host {
	best := x.all
	for _, label := range sorted(labels) { // of two as short, always the same
		if hosts := x.labels[label][labels[label]]; len(hosts) < len(best) {
			best = hosts
		}
	}
	return best
}

// start is where in a list of n to begin looking for a tenant, so that
// tenants spread over hosts without looking at all of them.
func start(tenant string, instance, n int) int {
	return int(mix(tenant, strconv.Itoa(instance)) % uint32(n))
}

// mix makes a number of two names, the same wherever it is made.
func mix(a, b string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(a))
	h.Write([]byte{0})
	h.Write([]byte(b))
	return h.Sum32()
}
