package scheduler

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// statusOf says how the tenant stands; an invalid spec says so whatever the
// last good one has come to.
func (c *change) statusOf(phase string) cluster.Status {
	s := cluster.Status{Phase: phase, Applied: c.applied, Reasons: c.reasons, Time: c.now.UTC().Truncate(time.Millisecond)}
	if o := c.tenant.observed; o != nil {
		s.Observed, s.Warnings = o.revision, append(append(cluster.Warnings(o.problems), c.tenant.sealing()...), c.tenant.warnings()...)
		if c.tenant.sealed == o.revision {
			s.Sealed = c.tenant.sealed
		}
		if o.err != nil {
			s.Phase, s.Error = cluster.PhaseInvalid, brief(o.err)
		}
	} else if old := c.tenant.status; old != nil {
		s.Observed, s.Applied = old.Observed, old.Applied
	}
	if c.force != nil && c.wanted > least(c.force.spec.Replicas) {
		s.Wanted, s.Scaled = c.wanted, c.tenant.scaled
	}
	for _, p := range c.ordered() {
		s.Instances = append(s.Instances, p.Instance)
		if p.Reason != "" {
			s.Reasons = append(s.Reasons, fmt.Sprintf("%s is on %s: %s", p.Instance, p.host, p.Reason))
		}
	}
	return s
}

// brief bounds what a spec with thousands of mistakes may make a status weigh.
func brief(err error) string {
	const most = 8 << 10
	text := err.Error()
	if len(text) <= most {
		return text
	}
	return text[:strings.LastIndexByte(text[:most], '\n')+1] + "… and more"
}

// status writes a status unless it says nothing new, or not all yet.
func (c *change) status(s cluster.Status) {
	if c.reading {
		return
	}
	if c.tenant.status != nil && sameStatus(*c.tenant.status, s) {
		return
	}
	data, err := json.Marshal(s)
	if err != nil {
		panic("scheduler: a status of texts must marshal: " + err.Error())
	}
	c.tenant.status = &s
	c.other = append(c.other, etcd.Put(cluster.TenantStatusKey(c.tenant.name), data))
}

// sameStatus compares all but the time.
func sameStatus(a, b cluster.Status) bool {
	a.Time, b.Time = time.Time{}, time.Time{}
	return reflect.DeepEqual(a, b)
}
