package fleet

import (
	"context"
	"encoding/json"
	"time"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// rebooted reboots every host by a rollout.
func rebooted(r *rig) {
	boots := map[string]string{}
	for _, h := range all[cluster.Host](r, cluster.HostsPrefix) {
		boots[h.Name] = h.Boot
	}
	l := r.load(r.proxies, r.calls()...)
	status := r.roll("reboots", cluster.Rollout{Kind: cluster.RolloutOS, Pace: cluster.Pace{Watch: cluster.Duration(time.Second)}})
	r.waits(l, 40)
	r.none(l)
	for _, h := range all[cluster.Host](r, cluster.HostsPrefix) {
		if h.Boot == boots[h.Name] {
			r.t.Errorf("host %s has not been rebooted", h.Name)
		}
		if f, known := status.Failed[h.Name]; !known || f.Requests > 0 {
			r.t.Errorf("the rollout says that %d requests failed at host %s (known: %v)", f.Requests, h.Name, known)
		}
		r.t.Logf("host %s took %s", h.Name, status.Hosts[h.Name].Took.Round(100*time.Millisecond))
	}
	r.awaitServing("pair", 2)
	r.awaitServing("single", 1)
}

// roll begins a rollout and waits until it is done.
func (r *rig) roll(id string, spec cluster.Rollout) (status cluster.RolloutStatus) {
	r.t.Helper()
	data, err := json.Marshal(spec)
	if err != nil {
		r.t.Fatal(err)
	}
	r.Etcdctl("put", cluster.RolloutKey(id), string(data))
	ctx, cancel := context.WithTimeout(r.t.Context(), 8*time.Minute)
	defer cancel()
	for b := range etcd.Watch(ctx, r.etcd, cluster.RolloutStatusKey(id)) {
		for _, e := range b.Events {
			if err := json.Unmarshal(e.Value, &status); err != nil && !e.Deleted {
				r.t.Fatal(err)
			}
		}
		switch status.Phase {
		case cluster.RolloutDone:
			return status
		case cluster.RolloutStopped, cluster.RolloutAborted:
			r.t.Fatalf("rollout %s is %s: %s", id, status.Phase, status.Reason)
		}
	}
	out, _ := r.Try("rollout", "status", id)
	r.t.Fatalf("rollout %s does not end:\n%s", id, out)
	return status
}
