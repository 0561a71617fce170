package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"bulkhead/cluster"
	"bulkhead/units"
)

// Observed is what is on the host.
type Observed struct {
	Units      map[string]units.State // by name
	Containers map[string][]Container // by instance
	Dirs       map[string]Dir         // by instance
	// Blind says why nothing is known of containers; nil: Containers are all
	// there are.
	Blind error
}

// Dir is what an instance's directory holds.
type Dir struct {
	Whole     bool              // every directory that belongs there is there
	Keys      string            // content of keys.json
	Functions map[string]string // version of each function's file
	Told      string            // [Want].Config that the runner has confirmed
	Answers   bool              // the cell's control socket takes connections
}

// Alive returns the instance's running container.
func (o Observed) Alive(instance string) (Container, bool) {
	for _, c := range o.Containers[instance] {
		if c.Running {
			return c, true
		}
	}
	return Container{}, false
}

// instances returns every instance of which there is anything.
func (o Observed) instances() map[string]bool {
	all := map[string]bool{}
	for name := range o.Units {
		if i := owner(name); i != "" {
			all[i] = true
		}
	}
	for i := range o.Containers {
		all[i] = true
	}
	for i := range o.Dirs {
		all[i] = true
	}
	return all
}

// observer looks at the host. It remembers versions of function files that
// haven't changed since it read them.
type observer struct {
	paths      cluster.Paths
	services   Services
	containers Containers
	versions   map[string]fileVersion
	answered   map[string]string // by instance: the container whose cell has answered
}

func newObserver(paths cluster.Paths, s Services, c Containers) *observer {
	return &observer{paths: paths, services: s, containers: c, versions: map[string]fileVersion{}, answered: map[string]string{}}
}

// lookPatience is how long one look at the host may take.
const lookPatience = 10 * time.Second

type fileVersion struct {
	modified time.Time
	size     int64
	version  string
}

func (o *observer) observe(ctx context.Context) (Observed, error) {
	ctx, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	seen := Observed{Units: map[string]units.State{}, Containers: map[string][]Container{}, Dirs: map[string]Dir{}}
	states, err := o.services.States(ctx, "bulkhead-")
	if err != nil {
		return seen, fmt.Errorf("cannot observe units: %w", err)
	}
	for _, s := range states {
		seen.Units[s.Name] = s
	}
	cs, err := o.containers.List(ctx)
	seen.Blind = err
	for _, c := range cs {
		seen.Containers[c.Instance] = append(seen.Containers[c.Instance], c)
	}
	dirs, err := os.ReadDir(instancesDir(o.paths))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return seen, fmt.Errorf("cannot observe directories: %w", err)
	}
	for _, d := range dirs {
		dir := o.paths.InstanceDir(d.Name())
		contents := o.dir(dir)
		c, alive := seen.Alive(d.Name())
		contents.Answers = alive && o.answers(d.Name(), c.ID, dir) || seen.Blind != nil && answers(controlSocket(dir))
		seen.Dirs[d.Name()] = contents
	}
	return seen, nil
}

func instancesDir(p cluster.Paths) string { return filepath.Join(p.Run, "instances") }

// toldFile is where [Dir].Told is kept.
func toldFile(d cluster.InstanceDir) string { return filepath.Join(d.Private(), "told") }

func (o *observer) dir(d cluster.InstanceDir) Dir {
	seen := Dir{Whole: whole(d), Functions: map[string]string{}}
	keys, _ := os.ReadFile(d.Keys())
	told, _ := os.ReadFile(toldFile(d))
	seen.Keys, seen.Told = string(keys), string(told)
	files, _ := os.ReadDir(d.Functions())
	for _, f := range files {
		seen.Functions[strings.TrimSuffix(f.Name(), ".json")] = o.version(filepath.Join(d.Functions(), f.Name()), f)
	}
	return seen
}

// answers says whether the cell of a running container has taken a
// connection. It asks each container until it has, and then no more: a cell
// that is frozen or busy is not a dead one, and our own unanswered
// connections must not pile up at its door.
func (o *observer) answers(instance, container string, d cluster.InstanceDir) bool {
	if o.answered[instance] != container {
		if !answers(controlSocket(d)) {
			return false
		}
		o.answered[instance] = container
	}
	return true
}

// version returns the version of the function in a file, "" if it has none.
func (o *observer) version(path string, f fs.DirEntry) string {
	info, err := f.Info()
	if err != nil {
		return ""
	}
	if v, ok := o.versions[path]; ok && v.modified.Equal(info.ModTime()) && v.size == info.Size() {
		return v.version
	}
	var fn cluster.Function
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &fn)
	}
	if err != nil {
		return ""
	}
	o.versions[path] = fileVersion{info.ModTime(), info.Size(), fn.Version}
	return fn.Version
}

// controlSocket is where an instance's cell listens for its runner.
func controlSocket(d cluster.InstanceDir) string { return filepath.Join(d.Cell(), "control.sock") }

// answers says whether a unix socket takes connections. It follows no link:
// tenants' code may be able to put one there.
func answers(path string) bool {
	if info, err := os.Lstat(path); err != nil || info.Mode().Type() != os.ModeSocket {
		return false
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err != nil {
		return false
	}
	c.Close()
	return true
}
