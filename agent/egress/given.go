package egress

import (
	"net/netip"
	"time"
)

// maxGiven is how many addresses of a family an instance may have been given
// and not yet lost; more names than that are not answered.
const maxGiven = 4096

// given are the addresses that the resolver has told instances, by instance:
// under which name, and until when they may be reached.
type given map[string]map[netip.Addr]gift

type gift struct {
	name  string
	until time.Time
}

// note remembers that an instance was given addresses, and says which of them
// it must be let reach longer than it is. False: it has too many.
func (g given) note(instance, name string, addrs []netip.Addr, until, now time.Time) ([]netip.Addr, bool) {
	has := g[instance]
	if has == nil {
		has = map[netip.Addr]gift{}
		g[instance] = has
	}
	if len(has)+len(addrs) > maxGiven {
		for a, gift := range has {
			if !gift.until.After(now) {
				delete(has, a)
			}
		}
		if len(has)+len(addrs) > maxGiven {
			return nil, false
		}
	}
	var longer []netip.Addr
	for _, a := range addrs {
		if !has[a].until.Before(until) {
			continue
		}
		has[a] = gift{name, until}
		longer = append(longer, a)
	}
	return longer, true
}

// keep drops what a new policy no longer lets an instance have.
func (g given) keep(instance string, p Policy) {
	for a, gift := range g[instance] {
		if !p.Name(gift.name) || !p.Address(a) {
			delete(g[instance], a)
		}
	}
}

// leases are what is still to be let through.
func (g given) leases() map[string][]lease {
	now, all := time.Now(), map[string][]lease{}
	for i, has := range g {
		for a, gift := range has {
			if left := int(gift.until.Sub(now).Seconds()); left > 0 {
				all[i] = append(all[i], lease{a, left})
			}
		}
	}
	return all
}
