package proxy

import (
	"strings"

	"bulkhead/cluster"
)

// rank says how good a choice an instance is; lower ones come first.
type rank int

const (
	here      rank = iota // on this host, and ready
	elsewhere             // on another host, and ready
	leaving               // about to be removed
	suspect               // its host's word has vanished, or its socket is not there
	failed                // not as it should be, but its runner may answer
	ranks
)

// standing is what a fact comes to.
type standing struct {
	rank     rank
	serves   bool // it is worth a try: rank says when
	starting bool // it does not serve, and is on its way
}

// rank tells how the proxy on host self sees an instance of a tenant at a
// place; exists says whether a socket is there.
//
// A route must say what its key says, and the host the same: a host that says
// it has an instance which was not placed on it gets nothing.
func (f fact) rank(self, tenant, place string, exists func(string) bool) standing {
	host, instance, _ := strings.Cut(place, "/")
	r, in := f.Route, f.Instance
	if r == nil || r.Host != host || r.Tenant != tenant || r.Instance != instance {
		return standing{}
	}
	if in == nil {
		return standing{starting: true}
	}
	if in.Host != host || in.Tenant != tenant || in.Instance != instance {
		return standing{}
	}
	local := host == self
	if local && in.Endpoint == "" || !local && r.Address == "" {
		return standing{starting: in.Phase == cluster.Starting}
	}
	switch {
	case in.Phase == cluster.Failed:
		return standing{rank: failed, serves: true}
	case !in.Phase.Serves():
		return standing{starting: in.Phase == cluster.Starting}
	case f.Lost && !(local && exists(in.Endpoint)):
		return standing{rank: suspect, serves: true}
	case r.Leaving:
		return standing{rank: leaving, serves: true}
	case local:
		return standing{rank: here, serves: true}
	}
	return standing{rank: elsewhere, serves: true}
}
