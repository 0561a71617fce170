package egress

import (
	"encoding/json"
	"hash/fnv"
	"net/netip"
	"strings"

	"bulkhead/cluster"
)

// Policy is what a tenant's egress means.
type Policy struct {
	Egress cluster.Egress
	// ByAddress: the whole public Internet, by whatever address. Else what has
	// a name is reached only at addresses that the resolver has given out.
	ByAddress  bool
	allowNets  []netip.Prefix
	denyNets   []netip.Prefix
	allowAll   bool
	allowNames []string
	denyNames  []string
	denyAll    bool
}

// NewPolicy reads a policy. An entry that can't be read, which no spec that
// was accepted has, allows nothing: among those to deny, it denies everything.
func NewPolicy(e cluster.Egress) Policy {
	p := Policy{Egress: e}
	for _, text := range e.Allow {
		switch r, err := cluster.ParseEgressRule(text); {
		case err != nil:
		case r.All:
			p.allowAll = true
		case r.Name != "":
			p.allowNames = append(p.allowNames, r.Name)
		default:
			p.allowNets = append(p.allowNets, r.Net)
		}
	}
	for _, text := range e.Deny {
		switch r, err := cluster.ParseEgressRule(text); {
		case err != nil, r.All:
			p.denyAll = true
		case r.Name != "":
			p.denyNames = append(p.denyNames, r.Name)
		default:
			p.denyNets = append(p.denyNets, r.Net)
		}
	}
	p.ByAddress = p.allowAll && !p.denyAll && len(p.denyNames) == 0
	return p
}

// Nothing says whether the policy lets nothing out.
func (p Policy) Nothing() bool {
	return p.denyAll || !p.allowAll && len(p.allowNames) == 0 && len(p.allowNets) == 0
}

// Name says whether a name may be asked for. It is lower case, without the
// dot at its end.
func (p Policy) Name(name string) bool {
	if p.denyAll || matches(p.denyNames, name) {
		return false
	}
	return p.allowAll || matches(p.allowNames, name)
}

// matches says whether one of the patterns is name, or covers it.
func matches(patterns []string, name string) bool {
	for _, pattern := range patterns {
		below, wild := strings.CutPrefix(pattern, "*")
		if pattern == name || wild && len(name) > len(below) && strings.HasSuffix(name, below) {
			return true
		}
	}
	return false
}

// Address says whether an address that some allowed name resolves to may be
// handed out: a name opens only what is public, unless a network that the
// policy allows holds it.
func (p Policy) Address(a netip.Addr) bool {
	if !a.IsValid() || a.Is4In6() || a.Zone() != "" || p.denyAll || holds(cluster.Unreachable, a) || holds(p.denyNets, a) {
		return false
	}
	return holds(p.allowNets, a) || public(a)
}

// public says whether an address is one of the public Internet.
func public(a netip.Addr) bool {
	return !holds(cluster.Unreachable, a) && !holds(cluster.Special, a) && (a.Is4() || cluster.Global.Contains(a))
}

func holds(nets []netip.Prefix, a netip.Addr) bool {
	for _, n := range nets {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// generation marks the connections that this policy has let an instance make:
// under another, each is looked at anew. It is never 0.
func (p Policy) generation(instance string) uint32 {
	h := fnv.New32a()
	text, _ := json.Marshal(p.Egress) // of strings alone: it cannot fail
	h.Write([]byte(instance + "\n"))
	h.Write(text)
	return h.Sum32() | 1
}
