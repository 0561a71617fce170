package agent

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// versioned is a decoded value with the revision it was written at.
type versioned[T any] struct {
	value    T
	revision int64
}

// book is what etcd last said is desired, decoded, and the same raw on disk.
// Invalid is not absent: a value that doesn't decode leaves the last good one
// in force, and only a delete event, or absence from one consistent full
// list, removes a key.
type book struct {
	host       string
	disk       disk
	secrets    *secrets
	log        *slog.Logger
	placements map[string]versioned[cluster.Placement] // by instance
	units      map[string]versioned[string]            // by unit name
	deliveries map[string]*delivery                    // of functions, by tenant

	modules Modules // where sets are; nil: nowhere

	unkept map[string]etcd.Event // what could not be written to disk yet, by key

	wants Desired         // as last put together
	stale map[string]bool // tenants of which something has changed since
}

// openBook reads the book as it was last kept on disk.
func openBook(host string, d disk, s *secrets, log *slog.Logger) (*book, error) {
	b := &book{
		host: host, disk: d, secrets: s, log: log,
		placements: map[string]versioned[cluster.Placement]{},
		units:      map[string]versioned[string]{},
		deliveries: map[string]*delivery{},
		unkept:     map[string]etcd.Event{},
		wants:      Desired{}, stale: map[string]bool{},
	}
	events, err := d.load(log)
	if err != nil {
		return nil, err
	}
	for _, e := range events {
		b.take(e)
	}
	return b, nil
}

// reopen has everything put together anew: other keys open what is sealed, or sets
// of modules came.
func (b *book) reopen() {
	for _, p := range b.placements {
		b.stale[p.value.Tenant] = true
	}
}

// apply takes a batch of the host's own keys.
func (b *book) apply(batch etcd.Batch) {
	seen := map[string]bool{}
	for _, e := range batch.Events {
		seen[e.Key] = true
		b.change(e)
	}
	if !batch.Snapshot {
		return
	}
	for instance := range b.placements {
		b.dropUnseen(seen, cluster.PlacementKey(b.host, instance))
	}
	for unit := range b.units {
		b.dropUnseen(seen, cluster.UnitKey(b.host, unit))
	}
	for tenant, d := range b.deliveries {
		for name := range d.copies {
			b.dropUnseen(seen, cluster.CopyKey(b.host, tenant, name))
		}
		if d.manifest != nil {
			b.dropUnseen(seen, cluster.ManifestKey(b.host, tenant))
		}
	}
}

func (b *book) dropUnseen(seen map[string]bool, key string) {
	if !seen[key] {
		b.change(etcd.Event{Key: key, Deleted: true})
	}
}

// change takes one event, and keeps it on disk if it was good.
func (b *book) change(e etcd.Event) {
	if !b.take(e) {
		return
	}
	delete(b.unkept, e.Key)
	if err := b.disk.keep(e); err != nil {
		b.log.Error("a reboot without etcd would not know of this", "key", e.Key, "error", err)
		b.unkept[e.Key] = e
	}
}

// keepRest tries again to write what could not be written, as long as that
// goes well.
func (b *book) keepRest() {
	for key, e := range b.unkept {
		if b.disk.keep(e) != nil {
			return
		}
		delete(b.unkept, key)
		b.log.Info("kept on disk after all", "key", key)
	}
}

// take takes one event; false: it was not good, or is nothing we know.
func (b *book) take(e etcd.Event) bool {
	var err error
	switch {
	case strings.HasPrefix(e.Key, cluster.HostPlacements(b.host)):
		err = b.takePlacement(e)
	case strings.HasPrefix(e.Key, cluster.HostUnits(b.host)):
		err = b.takeUnit(e)
	case strings.HasPrefix(e.Key, cluster.HostManifests(b.host)):
		err = b.takeManifest(e)
	case strings.HasPrefix(e.Key, cluster.HostCopies(b.host)):
		err = b.takeCopy(e)
	default:
		err = fmt.Errorf("no key of this host")
	}
	if err != nil {
		b.log.Warn("invalid value, the last good one stays in force", "key", e.Key, "revision", e.Revision, "error", err)
	}
	return err == nil
}

func (b *book) takePlacement(e etcd.Event) error {
	instance := strings.TrimPrefix(e.Key, cluster.HostPlacements(b.host))
	if e.Deleted {
		delete(b.placements, instance)
		delete(b.wants, instance)
		return nil
	}
	var p cluster.Placement
	if err := json.Unmarshal(e.Value, &p); err != nil {
		return fmt.Errorf("cannot decode placement: %w", err)
	}
	tenant, _, err := cluster.ParseInstance(instance)
	if err != nil {
		return err
	}
	if p.Instance != instance || p.Tenant != tenant {
		return fmt.Errorf("placement of %q of tenant %q under the key of %q", p.Instance, p.Tenant, instance)
	}
	if p.Image == "" || p.Resources.Memory <= 0 || p.Resources.CPU <= 0 || p.Resources.Pids <= 0 {
		return fmt.Errorf("placement without image, memory, cpu or pids")
	}
	b.placements[instance] = versioned[cluster.Placement]{p, e.Revision}
	b.stale[tenant] = true
	return nil
}

func (b *book) takeUnit(e etcd.Event) error {
	name := strings.TrimPrefix(e.Key, cluster.HostUnits(b.host))
	tenant, _, err := cluster.ParseInstance(owner(name))
	if err != nil {
		return fmt.Errorf("%q names no unit of an instance", name)
	}
	b.stale[tenant] = true
	if e.Deleted {
		delete(b.units, name)
		return nil
	}
	b.units[name] = versioned[string]{string(e.Value), e.Revision}
	return nil
}
