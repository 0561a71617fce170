package main

import (
	"cmp"
	"fmt"
	"slices"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// standing is how a tenant's instances are: what the scheduler decided and
// what agents observe.
type standing struct {
	Tenant    string          `json:"tenant"`
	Written   int64           `json:"written"` // revision of the spec; 0: there is none
	Status    *cluster.Status `json:"status,omitempty"`
	Instances []instance      `json:"instances"`
	Functions []string        `json:"functions,omitempty"`
}

// instance is a placement and what became of it.
type instance struct {
	Name      string        `json:"name"`
	Host      string        `json:"host"`
	Phase     cluster.Phase `json:"phase"` // pending: no agent has reported it
	Reason    string        `json:"reason,omitempty"`
	Network   string        `json:"network,omitempty"` // why its code can't connect to what its egress allows
	Placement int64         `json:"placement"`
	InForce   int64         `json:"in_force"`
	Container string        `json:"container,omitempty"` // none while it is dormant
	Spec      int64         `json:"spec"`
	Functions int64         `json:"functions"`
	Why       string        `json:"why"`
}

const pending cluster.Phase = "pending"

// standingPrefixes are what standings reads.
var standingPrefixes = []string{cluster.TenantsPrefix, cluster.StatusPrefix, cluster.PlacementsPrefix, cluster.InstancesPrefix}

// standings gathers all tenants from a view of standingPrefixes.
func standings(v *view) map[string]*standing {
	all := map[string]*standing{}
	of := func(tenant string) *standing {
		if all[tenant] == nil {
			all[tenant] = &standing{Tenant: tenant, Instances: []instance{}}
		}
		return all[tenant]
	}
	for key, e := range v.keys {
		if names, ok := cluster.SplitKey(key, cluster.TenantsPrefix, 1); ok {
			of(names[0]).Written = e.Revision
		}
	}
	under(v, cluster.StatusPrefix+"tenants/", 1, func(n []string, s cluster.Status, _ etcd.Event) { of(n[0]).Status = &s })
	under(v, cluster.PlacementsPrefix, 2, func(n []string, p cluster.Placement, e etcd.Event) {
		s := of(p.Tenant)
		i := instance{Name: n[1], Host: n[0], Phase: pending, Placement: e.Revision, Spec: p.Spec, Why: p.Reason}
		if seen, ok := get[cluster.Instance](v, cluster.InstanceKey(n[0], n[1])); ok {
			i.Network = seen.Network
			i.Phase, i.Reason, i.InForce, i.Functions, i.Container = seen.Phase, seen.Reason, seen.Placement, seen.Functions, seen.Container
		}
		s.Instances = append(s.Instances, i)
	})
	for _, s := range all {
		slices.SortFunc(s.Instances, func(a, b instance) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Host, b.Host)) })
	}
	return all
}

// ready counts the instances that requests reach.
func (s *standing) ready() (n int) {
	for _, i := range s.Instances {
		if i.Phase.Serves() {
			n++
		}
	}
	return n
}

func (s *standing) readiness() string { return fmt.Sprintf("%d/%d", s.ready(), len(s.Instances)) }

// inForce says whether the spec of a revision is what every instance runs.
func (s *standing) inForce(revision int64) bool {
	if s.Status == nil || s.Status.Observed < revision || s.Status.Phase != cluster.PhasePlaced {
		return false
	}
	for _, i := range s.Instances {
		if !i.Phase.Serves() || i.InForce < i.Placement || i.Spec < revision {
			return false
		}
	}
	return len(s.Instances) > 0
}

// has says whether every instance serves functions as of a revision.
func (s *standing) has(revision int64) bool {
	for _, i := range s.Instances {
		if !i.Phase.Serves() || i.Functions < revision {
			return false
		}
	}
	return len(s.Instances) > 0
}

// why says in a sentence what a tenant still waits for.
func (s *standing) why() string {
	switch {
	case s == nil || s.Status == nil && len(s.Instances) == 0:
		return "no scheduler has looked at it: is one running?"
	case s.Status != nil && s.Status.Error != "":
		return s.Status.Error
	}
	for _, i := range s.Instances {
		if !i.Phase.Serves() {
			return fmt.Sprintf("%s on %s is %s: %s", i.Name, i.Host, i.Phase, cmp.Or(i.Reason, "its agent says nothing yet"))
		}
	}
	if s.Status != nil && len(s.Status.Reasons) > 0 && s.Status.Phase != cluster.PhasePlaced {
		return s.Status.Reasons[0]
	}
	return "its agents have not taken it over yet"
}
