package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"bulkhead/agent/cells"
	"bulkhead/cluster"
	"bulkhead/units"
)

// Observed is what is on the host.
type Observed struct {
	Units      map[string]units.State       // by name
	Containers map[string][]cells.Container // by instance, of the cells that are theirs
	Dirs       map[string]Dir               // by instance
	// Blind says why nothing is known of containers; nil: Containers are all
	// there are.
	Blind error
}

// Dir is what an instance's directory holds.
type Dir struct {
	Whole     bool              // every directory that belongs there is there
	Keys      string            // content of keys.json
	Functions map[string]string // what each function's file says, as mark has it
	Told      string            // [Want].Config that the runner has confirmed
	Answers   bool              // the cell's control socket takes connections
	Door      bool              // the agent's socket for its runner is there
}

// Alive returns the instance's running container.
func (o Observed) Alive(instance string) (cells.Container, bool) {
	for _, c := range o.Containers[instance] {
		if c.Running {
			return c, true
		}
	}
	return cells.Container{}, false
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
	paths    cluster.Paths
	services Services
	engine   cells.Engine
	cells    *cells.Cells
	versions map[string]fileVersion
	answered map[string]string // by instance: the container whose cell has answered
	dirs     map[string]Dir    // as last read, by instance
	read     time.Time         // when all of them were
}

func newObserver(paths cluster.Paths, s Services, e cells.Engine, c *cells.Cells) *observer {
	return &observer{paths: paths, services: s, engine: e, cells: c, versions: map[string]fileVersion{}, answered: map[string]string{}, dirs: map[string]Dir{}}
}

// lookPatience is how long one look at the host may take.
const lookPatience = 10 * time.Second

type fileVersion struct {
	modified time.Time
	size     int64
	version  string
}

// observe looks at everything but directories that nobody has worked in since
// they were last read: only root may enter them, and reading those of a
// thousand instances takes longer than all else. Now and then it reads them all.
func (o *observer) observe(ctx context.Context, worked func(instance string) bool) (Observed, error) {
	ctx, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	seen := Observed{Units: map[string]units.State{}, Containers: map[string][]cells.Container{}, Dirs: map[string]Dir{}}
	states, err := o.services.States(ctx, "bulkhead-")
	if err != nil {
		return seen, fmt.Errorf("cannot observe units: %w", err)
	}
	for _, s := range states {
		seen.Units[s.Name] = s
	}
	asked := time.Now()
	cs, err := o.engine.List(ctx)
	if seen.Blind = err; err == nil {
		o.cells.Saw(cs, asked)
		seen.Containers = o.cells.Containers()
	}
	if err := o.readDirs(worked); err != nil {
		return seen, err
	}
	for i, contents := range o.dirs {
		c, alive := seen.Alive(i)
		contents.Answers = (alive || seen.Blind != nil) && o.answers(i, c.ID)
		seen.Dirs[i] = contents
	}
	return seen, nil
}

// readAll is how often every directory is read.
const readAll = 10 * time.Second

func (o *observer) readDirs(worked func(string) bool) error {
	entries, err := os.ReadDir(instancesDir(o.paths))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot observe directories: %w", err)
	}
	now, before := time.Now(), o.dirs
	all := now.Sub(o.read) >= readAll
	if all {
		o.read = now
	}
	o.dirs = make(map[string]Dir, len(entries))
	for _, e := range entries {
		known, ok := before[e.Name()]
		if !ok || all || worked(e.Name()) {
			known = o.dir(o.paths.InstanceDir(e.Name()))
		}
		o.dirs[e.Name()] = known
	}
	return nil
}

func instancesDir(p cluster.Paths) string { return filepath.Join(p.Run, "instances") }

// toldFile is where [Dir].Told is kept.
func toldFile(d cluster.InstanceDir) string { return filepath.Join(d.Private(), "told") }

func (o *observer) dir(d cluster.InstanceDir) Dir {
	seen := Dir{Whole: whole(d), Door: doorThere(d), Functions: map[string]string{}}
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
// connection. It asks each container until it has, and then no more: our own
// unanswered connections must not pile up at the door of one that is frozen.
func (o *observer) answers(instance, container string) bool {
	if container != "" && o.answered[instance] == container {
		return true
	}
	cell, ok := o.cells.Of(instance)
	if !ok || !cell.Answers() {
		return false
	}
	o.answered[instance] = container
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
	o.versions[path] = fileVersion{info.ModTime(), info.Size(), mark(fn)}
	return mark(fn)
}
