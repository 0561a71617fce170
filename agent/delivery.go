package agent

import (
	"encoding/json"
	"fmt"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// delivery is what this host has been given of one tenant's functions: the
// manifest says which there are, the copies are what they say.
type delivery struct {
	manifest *cluster.Manifest // nil: not there yet
	copies   map[string]copied // by function
	revision int64             // of the last manifest all of whose copies were there
}

// copied is the last good copy of a function.
type copied struct {
	function cluster.Function
	source   int64 // revision of the last copy that came, good or not
	from     map[string]string
}

// functions returns those of the manifest that are there, and the revision
// that they are as of: all of them, with the sets of npm modules that they name.
// The map is the caller's.
func (d *delivery) functions(where func(copied) (at string)) (map[string]cluster.Function, int64) {
	values := make(map[string]cluster.Function, len(d.manifest.Functions))
	whole := true
	for name, source := range d.manifest.Functions {
		c, ok := d.copies[name]
		if ok && c.function.File != "" {
			f := c.function
			if f.Modules != nil && f.Modules.Set != "" {
				m := *f.Modules
				m.At = where(c)
				f.Modules = &m
				whole = whole && m.At != ""
			}
			values[name] = f
		}
		whole = whole && ok && c.source >= source
	}
	if whole {
		d.revision = d.manifest.Revision
	}
	return values, d.revision
}

// lacksModules says that a function's set is not on the host yet.
func lacksModules(f cluster.Function) bool {
	return f.Modules != nil && f.Modules.Set != "" && f.Modules.At == ""
}

// mark names what a function's record on the host says.
func mark(f cluster.Function) string {
	if f.Modules == nil {
		return f.Version
	}
	return f.Version + " " + f.Modules.At
}

func (b *book) takeManifest(e etcd.Event) error {
	parts, ok := cluster.SplitKey(e.Key, cluster.HostManifests(b.host), 1)
	if !ok {
		return fmt.Errorf("want <tenant>")
	}
	var m cluster.Manifest
	if !e.Deleted {
		if err := json.Unmarshal(e.Value, &m); err != nil {
			return fmt.Errorf("cannot decode manifest: %w", err)
		}
	}
	d := b.delivery(parts[0])
	if d.manifest = &m; e.Deleted {
		d.manifest = nil
		b.dropEmpty(parts[0])
	}
	return nil
}

func (b *book) takeCopy(e etcd.Event) error {
	parts, ok := cluster.SplitKey(e.Key, cluster.HostCopies(b.host), 2)
	if !ok {
		return fmt.Errorf("want <tenant>/<function>")
	}
	tenant, name := parts[0], parts[1]
	d := b.delivery(tenant)
	if e.Deleted {
		delete(d.copies, name)
		b.dropEmpty(tenant)
		return nil
	}
	var c cluster.Copy
	if err := json.Unmarshal(e.Value, &c); err != nil {
		return fmt.Errorf("cannot decode copy: %w", err)
	}
	f, problems := cluster.DecodeFunction(name, c.Function)
	err := cluster.Invalid(problems)
	if err != nil {
		f = d.copies[name].function
	}
	d.copies[name] = copied{f, c.Source, c.From}
	return err
}

// delivery is a tenant's, about to change.
func (b *book) delivery(tenant string) *delivery {
	d := b.deliveries[tenant]
	if d == nil {
		d = &delivery{copies: map[string]copied{}}
		b.deliveries[tenant] = d
	}
	b.stale[tenant] = true
	return d
}

func (b *book) dropEmpty(tenant string) {
	if d := b.deliveries[tenant]; d.manifest == nil && len(d.copies) == 0 {
		delete(b.deliveries, tenant)
	}
}
