package units

import (
	"bytes"
	"strconv"
	"strings"
)

// pieces is an instance's template taken apart once, since a scheduler fills
// it a hundred thousand times: text, and between two texts a field.
type pieces struct {
	texts  []string
	fields []int
	size   int // of the texts
}

// The fields of an instance's templates, in the order of instance.values.
var fieldNames = []string{
	"Tenant", "Instance", "Slice", "Socket", "User", "CPUQuota", "Tasks", "Memory",
	"RunnerMemory", "RunnerTasks", "RunnerGoMemory", "Host.ProxyGID", "Host.Paths.Runner",
	"Dir.Socket", "Dir.Keys", "Dir.Root", "Dir.Functions", "Dir.Cell", "Dir.Agent",
}

func (in *instance) values() []string {
	return []string{
		in.Tenant, in.Instance, in.Slice, in.Socket, in.User, strconv.Itoa(in.CPUQuota), strconv.Itoa(in.Tasks), strconv.FormatInt(in.Memory, 10),
		strconv.Itoa(in.RunnerMemory), strconv.Itoa(in.RunnerTasks), strconv.Itoa(in.RunnerGoMemory), strconv.Itoa(in.Host.ProxyGID), in.Host.Paths.Runner,
		in.Dir.Socket(), in.Dir.Keys(), in.Dir.Root(), in.Dir.Functions(), in.Dir.Cell(), in.Dir.Agent(),
	}
}

// marker stands for a field while a template is taken apart; no template has
// its character.
const marker = "\x00"

// takeApart executes a template with markers for the fields' values. A field
// that it names and fieldNames doesn't is an error of ours: it panics.
func takeApart(name string) (p pieces) {
	marks := map[string]any{}
	for i, field := range fieldNames {
		at, names := marks, strings.Split(field, ".")
		for _, outer := range names[:len(names)-1] {
			if at[outer] == nil {
				at[outer] = map[string]any{}
			}
			at = at[outer].(map[string]any)
		}
		at[names[len(names)-1]] = marker + strconv.Itoa(i) + marker
	}
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, name, marks); err != nil || strings.Contains(b.String(), "<no value>") {
		panic("units: template " + name + " has a field that pieces does not know")
	}
	for i, part := range strings.Split(b.String(), marker) {
		if i%2 == 0 {
			p.texts, p.size = append(p.texts, part), p.size+len(part)
			continue
		}
		field, _ := strconv.Atoi(part)
		p.fields = append(p.fields, field)
	}
	return p
}

func (p *pieces) fill(values []string) string {
	size := p.size
	for _, field := range p.fields {
		size += len(values[field])
	}
	var b strings.Builder
	b.Grow(size)
	for i, text := range p.texts {
		b.WriteString(text)
		if i < len(p.fields) {
			b.WriteString(values[p.fields[i]])
		}
	}
	return b.String()
}

var (
	tenantSlice   = takeApart("tenant.slice")
	instanceSlice = takeApart("instance.slice")
	runnerSocket  = takeApart("runner.socket")
	runnerService = takeApart("runner.service")
)
