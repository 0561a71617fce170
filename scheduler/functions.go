package scheduler

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// function is a tenant's function as its key has it. Its value is held only
// from when it was seen or read until the tenant is planned next: all code
// together would fill the memory.
type function struct {
	revision int64  // of its key
	value    []byte // if loaded
	loaded   bool
	checked  bool   // wrong is known
	wrong    string // why it can't be copied; "": it can
	waits    string // why not yet
	set      bool   // it names a set of npm modules
	awaited  bool   // it has changed since, or is to be sealed: the watch will bring it
	unsealed bool   // it can't be sealed: it is copied in plain text
}

// delivery is what a host has of a tenant's functions.
type delivery struct {
	manifest *cluster.Manifest // nil: none, or none that can be read
	revision int64             // of the manifest's key; unseen until it comes back to us
	copies   map[string]copied // by function
}

// copied is a copy of a function. A list brings no values, so what was copied
// follows from the manifest, which is written last.
type copied struct {
	revision int64  // of the copy's key
	source   int64  // of the function that it is a copy of; 0: see the manifest
	sum      uint64 // hash of its value as we wrote it; 0: we didn't
}

// source is the revision of the function that the host has a copy of; 0:
// none, or nobody knows.
func (d *delivery) source(function string) int64 {
	c, there := d.copies[function]
	switch {
	case !there:
		return 0
	case c.source != 0:
		return c.source
	case d.manifest != nil && c.revision <= d.revision:
		return d.manifest.Functions[function]
	}
	return 0
}

func (s *snapshot) seeFunction(tenant, name string, e etcd.Event, listed bool) {
	t := s.tenant(tenant)
	s.mark(tenant)
	if e.Deleted {
		delete(t.functions, name)
		delete(s.plain, cluster.FunctionKey(tenant, name))
		t.removed = e.Revision
		return
	}
	if t.functions == nil {
		t.functions = map[string]*function{}
	}
	f := &function{revision: e.Revision}
	if !listed {
		f.value, f.loaded = e.Value, true
	}
	t.functions[name] = f
	s.wantFunction(tenant, name, f)
}

// check says whether the function may be copied; its value must be loaded the
// first time.
func (f *function) check(name string) bool {
	if !f.checked {
		decoded, problems := cluster.DecodeFunction(name, f.value)
		f.checked, f.waits = true, decoded.Waits()
		f.set = decoded.Modules != nil && decoded.Modules.Set != ""
		if cluster.Invalid(problems) != nil {
			f.wrong = brief(cluster.Invalid(problems))
		}
	}
	return f.wrong == "" && f.waits == ""
}

// warnings name the functions that can't be copied.
func (t *tenant) warnings() (lines []string) {
	for _, name := range sorted(t.functions) {
		f := t.functions[name]
		if f.checked && f.waits != "" {
			lines = append(lines, fmt.Sprintf("function %s waits, its last version stays: %s", name, f.waits))
		}
		if f.checked && f.wrong != "" {
			first, _, _ := strings.Cut(f.wrong, "\n")
			lines = append(lines, fmt.Sprintf("function %s is not valid, its last good version stays: %s", name, first))
		}
	}
	return lines
}

func (s *snapshot) seeManifest(host, tenant string, e etcd.Event) {
	t := s.tenant(tenant)
	d := t.delivery(host)
	if e.Deleted {
		if d.manifest != nil {
			s.mark(tenant)
		}
		d.manifest, d.revision = nil, 0
		t.tidy(host)
		return
	}
	var m cluster.Manifest
	if json.Unmarshal(e.Value, &m) != nil {
		d.manifest, d.revision = nil, e.Revision
		s.mark(tenant)
		return
	}
	if d.manifest == nil || d.manifest.Revision != m.Revision || !maps.Equal(d.manifest.Functions, m.Functions) {
		d.manifest = &m
		s.mark(tenant)
	}
	d.revision = e.Revision
}

func (s *snapshot) seeCopy(host, tenant, name string, e etcd.Event) {
	t := s.tenant(tenant)
	d := t.delivery(host)
	c, there := d.copies[name]
	switch {
	case e.Deleted && there:
		delete(d.copies, name)
		t.tidy(host)
		s.mark(tenant)
	case e.Deleted:
		t.tidy(host)
	case there && c.sum != 0 && c.sum == sum(e.Value):
		c.revision = e.Revision
		d.copies[name] = c
	default: // a list, or foreign hands
		d.put(name, copied{revision: e.Revision})
		s.mark(tenant)
	}
}

func (d *delivery) put(name string, c copied) {
	if d.copies == nil {
		d.copies = map[string]copied{}
	}
	d.copies[name] = c
}

func (t *tenant) delivery(host string) *delivery {
	d := t.delivered[host]
	if d == nil {
		d = &delivery{}
		t.delivered[host] = d
	}
	return d
}

// tidy forgets a delivery of which nothing is left.
func (t *tenant) tidy(host string) {
	if d := t.delivered[host]; d != nil && d.manifest == nil && d.revision == 0 && len(d.copies) == 0 {
		delete(t.delivered, host)
	}
}
