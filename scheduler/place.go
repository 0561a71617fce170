package scheduler

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"bulkhead/cluster"
	"bulkhead/internal/sealed"
)

// enough hosts that take an instance are compared; more gain little.
const enough = 16

// room is what is left on a host.
func (h *host) room() cluster.Resources { return add(h.presence.Capacity, h.used, -1) }

// refuses says in words why the host can't take an instance, given what it
// would get back first (its own, when an instance changes in place); "" means
// that it can.
func (h *host) refuses(spec *cluster.Spec, back cluster.Resources) string {
	if label, ok := h.lacks(spec.Placement.Labels); ok {
		return fmt.Sprintf("%s has no %s=%s", h.name, label, spec.Placement.Labels[label])
	}
	if !h.runs(spec.Runtime) {
		return fmt.Sprintf("%s has the OCI runtimes %s", h.name, strings.Join(h.presence.Runtimes, ", "))
	}
	if why := h.closed(); why != "" {
		return h.name + " " + why
	}
	if id := h.locked(spec); id != "" {
		return fmt.Sprintf("%s lacks the key %s, which opens this tenant's secrets", h.name, id)
	}
	return h.short(spec, back)
}

// closed says why the host takes nothing new, or "".
func (h *host) closed() string {
	switch {
	case h.drain != nil:
		return "is drained"
	case h.cordon != nil:
		return "is cordoned"
	case h.distrust != nil:
		return fmt.Sprintf("is distrusted until %s: %s", h.distrust.Until.UTC().Format("15:04 MST"), h.distrust.Reason)
	}
	return ""
}

// short says what the host has too little of for an instance, or "".
func (h *host) short(spec *cluster.Spec, back cluster.Resources) string {
	room, want := add(h.room(), back, 1), wants(spec)
	switch {
	case h.tooSmall(spec.Resources):
		return fmt.Sprintf("%s has only %s", h.name, cores(h.presence.Cores))
	case want.Memory > room.Memory:
		return fmt.Sprintf("%s has %s free", h.name, cluster.Bytes.String(max(room.Memory, 0)))
	case want.CPU > room.CPU+epsilon:
		return fmt.Sprintf("%s has %s free", h.name, cores(max(room.CPU, 0)))
	case want.Pids > room.Pids:
		return fmt.Sprintf("%s has %d pids free", h.name, max(room.Pids, 0))
	}
	return ""
}

// tooSmall reports whether an instance wants more cores than the machine has,
// however few of them others use.
func (h *host) tooSmall(want cluster.Resources) bool {
	return h.presence.Cores > 0 && want.CPU > h.presence.Cores
}

// epsilon forgives what summing tenths of cores loses.
const epsilon = 1e-9

// takes is refuses without the words.
func (h *host) takes(spec *cluster.Spec) bool { return h.fits(spec, wants(spec)) }

// wants is what an instance counts for on its host.
func wants(spec *cluster.Spec) cluster.Resources { return reserved(spec.Resources, sleepOf(spec)) }

// fits is takes for many hosts: what is wanted is worked out once.
func (h *host) fits(spec *cluster.Spec, want cluster.Resources) bool {
	if h.cordon != nil || h.drain != nil || h.distrust != nil {
		return false
	}
	room := h.room()
	if !h.runs(spec.Runtime) || h.tooSmall(spec.Resources) || want.Memory > room.Memory || want.CPU > room.CPU+epsilon || want.Pids > room.Pids {
		return false
	}
	_, lacking := h.lacks(spec.Placement.Labels)
	return !lacking && h.locked(spec) == ""
}

// locked returns the ID of a key that the host would need to open the tenant's
// secrets and doesn't have, or "".
func (h *host) locked(spec *cluster.Spec) string {
	for _, k := range spec.Keys {
		if k.Sealed == "" {
			continue
		}
		if id := sealed.KeyID(k.Sealed); !slices.Contains(h.presence.Opens, id) {
			return id
		}
	}
	return ""
}

// lacks returns the first label, by name, that the host doesn't have.
func (h *host) lacks(labels map[string]string) (string, bool) {
	first := ""
	for label, value := range labels {
		if got, ok := h.presence.Labels[label]; (!ok || got != value) && (first == "" || label < first) {
			first = label
		}
	}
	return first, first != ""
}

// runs reports whether the host's engine has an OCI runtime; "" is its own
// choice.
func (h *host) runs(runtime string) bool {
	return runtime == "" || slices.Contains(h.presence.Runtimes, runtime)
}

// oddness is how much fuller a host counts whose software is not the most
// common.
const oddness = 0.25

// load is the share of the host's scarcest resource that is in use once the
// instance is there; a host that has one of the tenant's already counts as
// fuller than any that has none.
func (h *host) load(t *tenant, want cluster.Resources) float64 {
	load := shareOf(add(h.used, want, 1), h.presence.Capacity)
	if h.odd {
		load += oddness
	}
	for _, p := range t.placed {
		if p.host == h.name {
			load++
		}
	}
	return load
}

// choose finds a host for the n-th instance of a tenant and says why that
// one; without a host, why none.
func (s *snapshot) choose(t *tenant, n int, spec *cluster.Spec) (*host, string) {
	x := s.indexed()
	if len(s.full) > 0 {
		if why, ok := s.full[demandOf(spec)]; ok {
			return nil, why
		}
	}
	if spec.Placement.Spread != "" {
		if h, why := s.spread(x, t, n, spec); h != nil {
			return h, why
		}
	}
	h, seen := best(x.with(spec.Placement.Labels), t, n, spec)
	if h == nil {
		why := s.nowhere(x, spec)
		s.full[demandOf(spec)] = why
		return nil, why
	}
	return h, because(h, seen)
}

// demandOf names all that decides whether any host takes an instance.
func demandOf(spec *cluster.Spec) string {
	var opens []string
	for _, k := range spec.Keys {
		opens = append(opens, sealed.KeyID(k.Sealed))
	}
	return fmt.Sprint(spec.Resources, sleepOf(spec).Dormant > 0, spec.Runtime, spec.Placement.Labels, opens) // maps print sorted
}

func because(h *host, seen int) string {
	room := h.room()
	free := fmt.Sprintf("%s and %s free", room.Memory, cores(room.CPU))
	if seen == 1 {
		return fmt.Sprintf("%s is the only host that takes it (%s)", h.name, free)
	}
	return fmt.Sprintf("%s has the most room of %d hosts looked at (%s)", h.name, seen, free)
}

// best returns the least loaded of enough hosts that take the instance, and
// how many those were.
func best(hosts []*host, t *tenant, n int, spec *cluster.Spec) (found *host, seen int) {
	if len(hosts) == 0 {
		return nil, 0
	}
	from, lowest, want := start(t.name, n, len(hosts)), 0.0, wants(spec)
	for i := range hosts {
		h := hosts[(from+i)%len(hosts)]
		if !h.fits(spec, want) {
			continue
		}
		if load := h.load(t, want); found == nil || load < lowest {
			found, lowest = h, load
		}
		if seen++; seen == enough {
			break
		}
	}
	return found, seen
}

// spread looks for a host where the fewest of the tenant's instances have the
// same value of the label to spread over.
func (s *snapshot) spread(x *index, t *tenant, n int, spec *cluster.Spec) (*host, string) {
	label := spec.Placement.Spread
	count := map[string]int{}
	for _, p := range t.placed {
		if h := s.hosts[p.host]; h != nil && h.presence != nil {
			count[h.presence.Labels[label]]++
		}
	}
	values := slices.SortedFunc(maps.Keys(x.labels[label]), func(a, b string) int {
		// Among equals each tenant begins elsewhere, or all would begin in one.
		return cmp.Or(cmp.Compare(count[a], count[b]), cmp.Compare(mix(t.name, a), mix(t.name, b)), cmp.Compare(a, b))
	})
	for _, value := range values {
		if h, seen := best(x.labels[label][value], t, n, spec); h != nil {
			return h, fmt.Sprintf("%s=%s has %d of its instances; %s", label, value, count[value], because(h, seen))
		}
	}
	return nil, ""
}

// nowhere says why no host takes an instance.
func (s *snapshot) nowhere(x *index, spec *cluster.Spec) string {
	if len(x.all) == 0 {
		return "no host is present: is an agent running, and does it reach etcd?"
	}
	const most = 4
	var why []string
	for _, h := range x.all {
		if len(why) < most {
			why = append(why, h.refuses(spec, cluster.Resources{}))
		}
	}
	if more := len(x.all) - len(why); more > 0 {
		why = append(why, fmt.Sprintf("and %d more hosts", more))
	}
	r := wants(spec)
	need := fmt.Sprintf("no host has %s, %s and %d pids free", r.Memory, cores(r.CPU), r.Pids)
	for _, label := range slices.Sorted(maps.Keys(spec.Placement.Labels)) {
		need += fmt.Sprintf(" with %s=%s", label, spec.Placement.Labels[label])
	}
	if spec.Runtime != "" {
		need += " and the OCI runtime " + spec.Runtime
	}
	return need + ": " + strings.Join(why, ", ")
}

func cores(n float64) string {
	if n == 1 {
		return "1 core"
	}
	return fmt.Sprintf("%.4g cores", n)
}
