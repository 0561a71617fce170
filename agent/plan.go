package agent

import (
	"fmt"
	"maps"
	"slices"

	"bulkhead/cluster"
)

// Action is what a task does.
type Action string

// Actions, in the order in which an instance's tasks come: an instance is
// built from its directories up, and taken down from its socket.
const (
	MakeDirs        Action = "make directories"
	WriteKeys       Action = "write keys"
	WriteFunctions  Action = "write functions"
	WriteUnits      Action = "write units"
	RemoveContainer Action = "remove container"
	TakeCell        Action = "take cell"
	ResizeCell      Action = "resize cell"
	StartSocket     Action = "start socket"
	RestartRunner   Action = "restart runner"
	TellRunner      Action = "tell runner"
	RemoveUnits     Action = "remove units"
	RemoveDirs      Action = "remove directories"
)

// Task is one thing to do for one instance, and why.
type Task struct {
	Instance  string
	Action    Action
	Reason    string
	Container string   // of RemoveContainer: which
	Units     []string // of RemoveUnits: which, in order
}

// Plan says what to do so that what is observed becomes what is desired:
// tasks in order for each instance, instances in the order of their names.
// What is as it should be gets no task.
func Plan(d Desired, o Observed) []Task {
	var tasks []Task
	all := o.instances()
	for i := range d {
		all[i] = true
	}
	for _, i := range slices.Sorted(maps.Keys(all)) {
		w, ok := d[i]
		switch {
		case !ok:
			tasks = append(tasks, planGone(i, d, o)...)
		case w.ready(o.Dirs[i]):
			tasks = append(tasks, planInstance(i, w, o)...)
		}
	}
	return tasks
}

// ready says whether an instance can be worked on. What is here already goes on
// while more is fetched for it.
func (w Want) ready(d Dir) bool { return w.Missing == "" && (w.Awaits == "" || d.Whole) }

// plan collects the tasks of one instance.
type plan struct {
	instance string
	tasks    []Task
}

func (p *plan) add(a Action, reason string, args ...any) *Task {
	p.tasks = append(p.tasks, Task{Instance: p.instance, Action: a, Reason: fmt.Sprintf(reason, args...)})
	return &p.tasks[len(p.tasks)-1]
}

func planInstance(i string, w Want, o Observed) []Task {
	p := &plan{instance: i}
	dir := o.Dirs[i]
	p.files(w, dir)
	restart := p.units(w, o)
	if o.Blind == nil {
		p.container(w, o)
	}
	socket, service := o.Units[w.Units[2].Name], o.Units[w.Units[3].Name]
	if !socket.Up() {
		p.add(StartSocket, "its socket is %s", state(socket.Active))
	}
	switch {
	case restart && service.Up():
		p.add(RestartRunner, "its unit has changed")
	case !dir.Whole && service.Up():
		p.add(RestartRunner, "its jail shows directories that are gone")
	case service.Up() && dir.Told != w.Config():
		p.add(TellRunner, "keys, limits or functions have changed since it last heard")
	}
	return p.tasks
}

func (p *plan) has(a Action) bool {
	return slices.ContainsFunc(p.tasks, func(t Task) bool { return t.Action == a })
}

func (p *plan) files(w Want, dir Dir) {
	if !dir.Whole {
		p.add(MakeDirs, "it is not complete on this host")
	}
	if dir.Keys != string(w.Keys) {
		p.add(WriteKeys, "keys or limits are as of revision %d", w.Revision)
	}
	want := map[string]string{}
	for name, f := range w.Functions {
		want[name] = mark(f)
		if before, there := dir.Functions[name]; there && lacksModules(f) {
			want[name] = before // it goes on meanwhile
		}
	}
	if !maps.Equal(want, dir.Functions) {
		p.add(WriteFunctions, "functions are as of revision %d", w.FunctionsRevision)
	}
}

// units plans unit files, and says whether the runner's own has changed.
func (p *plan) units(w Want, o Observed) (restart bool) {
	for n, u := range w.Units {
		have := o.Units[u.Name]
		if have.Text == u.Text {
			continue
		}
		if !p.has(WriteUnits) {
			p.add(WriteUnits, "%s has changed", u.Name)
		}
		restart = restart || n == 3 && have.Text != ""
	}
	return restart
}

func (p *plan) container(w Want, o Observed) {
	alive := false
	for _, c := range o.Containers[p.instance] {
		switch {
		case !c.Running:
			p.add(RemoveContainer, "its container stopped: %s", c.Status).Container = c.ID
		case c.Image != w.Cell.Image:
			p.add(RemoveContainer, "its image differs").Container = c.ID
		case alive:
			p.add(RemoveContainer, "there is another").Container = c.ID
		default:
			alive = true
			if c.Limits != w.Cell.Limits {
				p.add(ResizeCell, "limits differ")
			}
		}
	}
	// An instance that may sleep gets its next cell when its runner asks.
	if !alive && w.warm() {
		p.add(TakeCell, "placed here: %s", w.Placement.Reason)
	}
}

// planGone takes down an instance that is not desired: first what takes
// requests, then what serves them, then what they leave behind.
func planGone(i string, d Desired, o Observed) []Task {
	p := &plan{instance: i}
	const why = "it is not placed here"
	names, err := unitNames(i)
	if err != nil {
		return p.strange(o)
	}
	there := func(name string) bool { _, ok := o.Units[name]; return ok }
	if stop := slices.DeleteFunc([]string{names[2], names[3]}, func(n string) bool { return !there(n) }); len(stop) > 0 {
		p.add(RemoveUnits, why).Units = stop
	}
	if o.Blind != nil {
		return p.tasks // what serves requests has gone; the rest waits for Docker
	}
	for _, c := range o.Containers[i] {
		p.add(RemoveContainer, why).Container = c.ID
	}
	var slices []string
	if there(names[1]) {
		slices = append(slices, names[1])
	}
	if there(names[0]) && !tenantHasOther(i, d, o) {
		slices = append(slices, names[0])
	}
	if len(slices) > 0 {
		p.add(RemoveUnits, why).Units = slices
	}
	if _, ok := o.Dirs[i]; ok {
		p.add(RemoveDirs, why)
	}
	return p.tasks
}

// strange removes what carries a name that no instance can have.
func (p *plan) strange(o Observed) []Task {
	for _, c := range o.Containers[p.instance] {
		p.add(RemoveContainer, "its label names no instance").Container = c.ID
	}
	if _, ok := o.Dirs[p.instance]; ok {
		p.add(RemoveDirs, "its name is no instance's")
	}
	return p.tasks
}

// tenantHasOther says whether another instance of the same tenant is desired,
// or still there.
func tenantHasOther(i string, d Desired, o Observed) bool {
	tenant, _, _ := cluster.ParseInstance(i)
	same := func(other string) bool {
		t, _, err := cluster.ParseInstance(other)
		return err == nil && t == tenant && other != i
	}
	for other := range d {
		if same(other) {
			return true
		}
	}
	for other := range o.instances() {
		names, err := unitNames(other)
		if err == nil && same(other) && (len(o.Containers[other]) > 0 || o.Units[names[3]].Name != "") {
			return true
		}
	}
	return false
}

func state(active string) string {
	if active == "" {
		return "not there"
	}
	return active
}
