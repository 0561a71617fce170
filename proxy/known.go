package proxy

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
	"bulkhead/internal/kept"
)

// known is what etcd last said of instances, by tenant and then by place: the
// host's name, a slash and the instance's. It is kept on disk as it is.
type known map[string]map[string]fact

// fact is what two parties say of an instance at a place. Only together do
// they make it one that is served: the scheduler has placed it there, and the
// host has it.
type fact struct {
	Route    *cluster.Route    `json:"route,omitempty"`
	Instance *cluster.Instance `json:"instance,omitempty"`
	// Lost: the host's word has vanished without a last one. Its agent may
	// have died, or etcd was away for too long; that stops no instance.
	Lost bool `json:"lost,omitempty"`
}

// apply takes in a batch and returns the tenants of which something changed.
// What it cannot read it says, and keeps what was known instead: invalid is
// not absent.
func (k known) apply(batch etcd.Batch, log *slog.Logger) map[string]bool {
	touched, listed := map[string]bool{}, map[string]bool{}
	for _, e := range batch.Events {
		listed[e.Key] = !e.Deleted
		tenant, place, err := placeOf(e.Key)
		if err != nil {
			log.Warn("key does not name an instance at a host", "key", clip(e.Key), "error", clip(err.Error()))
			continue
		}
		f := k[tenant][place]
		if e.Deleted {
			f = f.without(e.Key)
		} else if f, err = f.with(e); err != nil {
			log.Warn("key cannot be read, going on with what was known", "key", clip(e.Key), "error", clip(err.Error()))
			continue
		}
		k.put(tenant, place, f)
		touched[tenant] = true
	}
	if batch.Snapshot {
		k.forget(listed, touched)
	}
	return touched
}

// forget drops what a snapshot does not list.
func (k known) forget(listed, touched map[string]bool) {
	for tenant, places := range k {
		for place, f := range places {
			for _, key := range []string{cluster.RoutesPrefix + place, cluster.InstancesPrefix + place} {
				if !listed[key] {
					f = f.without(key)
				}
			}
			k.put(tenant, place, f)
			touched[tenant] = true
		}
	}
}

func (k known) put(tenant, place string, f fact) {
	switch {
	case f.Route == nil && f.Instance == nil:
		delete(k[tenant], place)
		if len(k[tenant]) == 0 {
			delete(k, tenant)
		}
	case k[tenant] == nil:
		k[tenant] = map[string]fact{place: f}
	default:
		k[tenant][place] = f
	}
}

// placed reports whether the scheduler has a tenant run anywhere: a host alone
// brings none into being.
func (k known) placed(tenant string) bool {
	for _, f := range k[tenant] {
		if f.Route != nil {
			return true
		}
	}
	return false
}

// with is the fact with what a key says now.
func (f fact) with(e etcd.Event) (fact, error) {
	if strings.HasPrefix(e.Key, cluster.RoutesPrefix) {
		f.Route = new(cluster.Route)
		return f, json.Unmarshal(e.Value, f.Route)
	}
	f.Instance, f.Lost = new(cluster.Instance), false
	return f, json.Unmarshal(e.Value, f.Instance)
}

// without is the fact without what a key said. An agent that ends an instance
// on purpose says so first, so a key that vanishes from one that served means
// that its lease was lost: while the scheduler wants the instance there it is
// still worth a try.
func (f fact) without(key string) fact {
	if strings.HasPrefix(key, cluster.RoutesPrefix) {
		f.Route = nil
		if f.Lost {
			f.Instance, f.Lost = nil, false
		}
		return f
	}
	if f.Lost = f.Instance != nil && f.Route != nil && f.Instance.Phase.Serves(); !f.Lost {
		f.Instance = nil
	}
	return f
}

// placeOf takes the key of a route or instance apart.
func placeOf(key string) (tenant, place string, err error) {
	rest, ok := strings.CutPrefix(key, cluster.RoutesPrefix)
	if !ok {
		rest, ok = strings.CutPrefix(key, cluster.InstancesPrefix)
	}
	host, instance, both := strings.Cut(rest, "/")
	if !ok || !both {
		return "", "", fmt.Errorf("want %s<host>/<instance> or %s<host>/<instance>", cluster.RoutesPrefix, cluster.InstancesPrefix)
	}
	if err := cluster.CheckHost(host); err != nil {
		return "", "", err
	}
	tenant, _, err = cluster.ParseInstance(instance)
	return tenant, rest, err
}

func readKept(file string) (known, error) {
	k := known{}
	data, err := os.ReadFile(file)
	if os.IsNotExist(err) {
		return k, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &k)
	}
	if err != nil {
		return known{}, fmt.Errorf("cannot read kept routes: %w", err)
	}
	return k, nil
}

func (k known) keep(file string) error {
	data, err := json.Marshal(k)
	if err == nil {
		err = kept.Write(file, data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("cannot keep routes: %w", err)
	}
	return nil
}
