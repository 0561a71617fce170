package rollout

import (
	"fmt"
	"maps"
	"time"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// failedEvery is how often a status is written at most for the sake of the
// counts of failed requests alone.
const failedEvery = 5 * time.Second

// counted are the hosts' counts of failed requests, as a rollout begins.
func (m *machine) counted() map[string]cluster.Failures {
	all := map[string]cluster.Failures{}
	for name, h := range m.Hosts {
		if h.Failed != nil {
			all[name] = cluster.Failures{}.From(*h.Failed)
		}
	}
	return all
}

// counts are those that a rollout has noted, taken on to what hosts say now. Of
// one that says nothing it keeps what it knew.
func (m *machine) counts(noted map[string]cluster.Failures, on func(cluster.Failures, int64) cluster.Failures) map[string]cluster.Failures {
	all := maps.Clone(noted)
	for name, f := range all {
		if h := m.Hosts[name]; h != nil && h.Failed != nil {
			all[name] = on(f, *h.Failed)
		}
	}
	return all
}

// put writes a rollout's status, with the newest counts of failed requests. What
// failed between its end and an undo is not its own.
func (m *machine) put(id string, st cluster.RolloutStatus) etcd.Op {
	if r := m.rollout(id); r != nil && r.Status != nil {
		switch {
		case r.Status.Ended.IsZero():
			st.Failed = m.counts(st.Failed, cluster.Failures.Follow)
		case st.Ended.IsZero():
			st.Failed = m.counts(st.Failed, cluster.Failures.From)
		}
	}
	return etcd.Put(cluster.RolloutStatusKey(id), marshalled(st))
}

// failures writes the counts of failed requests of rollouts that are under way,
// now and then, when there is nothing else to write.
func (m *machine) failures() Decision {
	for _, r := range m.Rollouts {
		if r.Status == nil || !r.Status.Ended.IsZero() || len(r.Status.Failed) == 0 {
			continue
		}
		noted := r.Status.Failed
		lasts := m.sights.lasts("failed/"+r.ID, fmt.Sprint(noted), m.Now) // maps print sorted
		if lasts >= failedEvery && !maps.Equal(noted, m.counts(noted, cluster.Failures.Follow)) {
			return m.writes(r, copyOf(r.Status), fmt.Sprintf("requests have failed since rollout %s began", r.ID))
		}
	}
	return Decision{}
}
