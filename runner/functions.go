package runner

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"bulkhead/cluster"
)

// functions reads the tenant's functions from the directory that the agent
// keeps: <name>.json, each a [cluster.Function] with its Version set. Records
// are kept until the agent says that they changed.
type functions struct {
	dir     string
	records map[string]*cluster.Function
}

// get returns a function's record. It is called with the name that a client
// sent, so it checks the name before it becomes part of a path.
func (f *functions) get(tenant, name string) (*cluster.Function, *Refusal) {
	if r := f.records[name]; r != nil {
		return r, nil
	}
	if err := cluster.CheckFunction(name); err != nil {
		return nil, refuse(404, "function_unknown", "unable to resolve function: %v", err)
	}
	data, err := os.ReadFile(filepath.Join(f.dir, name+".json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, refuse(404, "function_unknown", "unable to resolve function %q: tenant %q has none of that name", name, tenant)
	}
	var record cluster.Function
	if err == nil {
		err = json.Unmarshal(data, &record)
	}
	if err == nil && record.Version == "" {
		err = errors.New("it has no version")
	}
	if err != nil {
		return nil, refuse(503, "function_unreadable", "the record of function %q cannot be read: %v", name, err)
	}
	if m := record.Modules; m != nil && m.Set != "" && m.At == "" {
		return nil, refuse(503, "modules_missing", "function %q has npm modules that are not on this host yet: it fetches them", name)
	}
	f.records[name] = &record
	return &record, nil
}

// current reports whether a version of a function is the one there is.
func (f *functions) current(tenant, name, version string) bool {
	record, refusal := f.get(tenant, name)
	return refusal == nil && record.Version == version
}

// forget drops all records, so that each is read again when it is next used.
func (f *functions) forget() { f.records = map[string]*cluster.Function{} }

// oneOffName is the function that code which came with a request runs as.
func oneOffName(version string) string { return fmt.Sprintf("~%.16s", version) }
