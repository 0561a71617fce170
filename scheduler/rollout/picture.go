package rollout

import (
	"time"

	"bulkhead/cluster"
)

// Picture is the cluster as decisions are made by it.
type Picture struct {
	Now      time.Time
	Revision int64 // that all of it is as of
	Rollouts []*Rollout
	Statuses map[string]bool // of which there is one, by rollout
	Hosts    map[string]*Host
	Cycles   map[string]*Cycle // by host
	Orders   map[string]bool   // hosts that have one
	Asks     map[string]*Ask   // by host
	Below    map[string]string // tenants with fewer instances serving than they must have: how many
	Braked   string            // why nothing is begun now; empty: nothing is wrong
}

// Rollout is one that an operator has written. [Picture] has them in the order
// in which they were.
type Rollout struct {
	ID       string
	Revision int64 // at which it was last changed
	cluster.Rollout
	Problem string // what is wrong with it as written; empty: nothing. The rest is then the last good one, or has no kind
	Status  *cluster.RolloutStatus
}

// Host is all that matters of a host.
type Host struct {
	Name     string
	Presence *cluster.Host // nil: it is gone
	Back     time.Time     // since when it has been present, as this leader saw it
	Member   bool          // it has a member of etcd
	Labels   map[string]string
	Cordon   *string // the reason; nil: none
	Drain    *string
	Distrust string // why it is distrusted; empty: it isn't
	Left     []Left // instances that still have to leave it, or to be replaced on it
	Known    bool   // the operator has said what it is
	Placed   int    // instances that are placed on it
	Running  int    // instances that its agent reports; counted while it is drained
	Report   cluster.Report
	Failed   *int64 // requests that failed at its proxy, as it counts them; nil: it doesn't say
}

// Left is an instance that is still there.
type Left struct {
	Instance string
	Tenant   string
	Stale    bool   // its image or its runner is not the host's any more
	Waits    string // what it lacks to be replaced; empty: there is room
}

// Cycle is a host's, as it is in etcd.
type Cycle struct {
	cluster.Cycle
	Created  int64
	Revision int64
}

// Ask is a host's, as it is in etcd.
type Ask struct {
	cluster.Ask
	Created int64 // when the host first asked
}

// Rollout finds one.
func (p *Picture) rollout(id string) *Rollout {
	for _, r := range p.Rollouts {
		if r.ID == id {
			return r
		}
	}
	return nil
}
