package cluster

import (
	"fmt"
	"regexp"
	"time"
)

// MaxSpec is the most a spec's JSON may measure.
const MaxSpec = 256 * KiB

// maxKeys is the most keys a tenant may have at once.
const maxKeys = 16

// DefaultSpec is a spec with everything but its keys: the one place where
// defaults are said.
func DefaultSpec() Spec {
	second := Duration(time.Second)
	return Spec{
		Replicas:  Replicas{Min: 0, Max: 4, Concurrency: 20},
		Resources: Resources{Memory: 128 * MiB, CPU: 0.5, Pids: 64, Tmp: 64 * MiB},
		Limits:    Limits{Block: second, CPU: 10 * second, Wall: 60 * second, Background: 30 * second, Body: MiB, Code: MiB, Rate: 50, Concurrency: 100},
		Sleep:     Sleep{Freeze: 30 * second, Dormant: 15 * 60 * second},
		Egress:    Egress{Allow: []string{"*"}},
	}
}

// DecodeSpec reads the value of a tenant's key, strictly: unknown and doubled
// keys, values without a unit or out of range and a name that disagrees with
// the key's are problems. It returns all of them, not the first; the spec is
// good when none but warnings are among them ([Invalid] is nil).
func DecodeSpec(tenant string, data []byte) (Spec, []Problem) {
	spec := DefaultSpec()
	r := &reader{}
	if err := CheckTenant(tenant); err != nil {
		r.wrong("", err.Error(), "")
	}
	root, problem := parseTree(data, MaxSpec)
	if problem != nil {
		r.problems = append(r.problems, *problem)
		return spec, r.problems
	}
	r.spec(tenant, root, &spec)
	return spec, r.problems
}

func (r *reader) spec(tenant string, root node, s *Spec) {
	name := func(path string, n node) {
		if r.is(path, n, "text", "the tenant's name, or leave it out") && n.text != tenant {
			r.wrong(path, show(n.text)+"disagrees with the key, which is for "+tenant, "make them equal or leave it out")
		}
	}
	r.object("", root,
		field{"name", name},
		field{"tenant", name},
		field{"keys", func(path string, n node) { r.keys(path, n, &s.Keys) }},
		field{"replicas", func(path string, n node) { r.replicas(path, n, &s.Replicas) }},
		field{"resources", func(path string, n node) { r.resources(path, n, &s.Resources) }},
		field{"limits", func(path string, n node) { r.limits(path, n, &s.Limits) }},
		field{"sleep", func(path string, n node) { r.sleep(path, n, &s.Sleep) }},
		field{"modules", r.texts(&s.Modules, r.wanted)},
		field{"egress", func(path string, n node) { r.egress(path, n, &s.Egress) }},
		field{"runtime", r.matching(&s.Runtime, runtimePattern.MatchString, `an OCI runtime as the hosts' engines name it, like "runsc"`)},
		field{"database", func(path string, n node) { s.Database = &Database{}; r.database(path, n, s.Database) }},
		field{"placement", func(path string, n node) { r.placement(path, n, &s.Placement) }},
	)
	if root.kind != "object" {
		return
	}
	if len(s.Keys) == 0 && !hasMember(root, "keys") {
		r.wrong("keys", "is missing", `want at least one key, like {"kid": "2026-11", "alg": "HS256", "secret": "…"}`)
	}
	r.unhonoured(s)
}

func hasMember(n node, name string) bool {
	for _, m := range n.members {
		if m.name == name {
			return true
		}
	}
	return false
}

// unhonoured warns of what this version takes but does nothing about.
func (r *reader) unhonoured(s *Spec) {
	if s.Database != nil {
		r.warn("database", "is kept but not honoured yet: no database is made")
	}
}

func (r *reader) replicas(path string, n node, v *Replicas) {
	before := len(r.problems)
	r.object(path, n,
		field{"min", r.integer(&v.Min, 0, 64)},
		field{"max", r.integer(&v.Max, 1, 64)},
		field{"concurrency", r.integer(&v.Concurrency, 1, 10_000)},
	)
	if len(r.problems) == before && v.Max < v.Min {
		r.wrong(path+".max", fmt.Sprintf("%d is less than min, %d", v.Max, v.Min), "want max to be at least min")
	}
}

func (r *reader) resources(path string, n node, v *Resources) {
	before := len(r.problems)
	r.object(path, n,
		field{"memory", r.size(&v.Memory, 64*MiB, 1024*GiB)},
		field{"cpu", r.number(&v.CPU, 0.05, 256)},
		field{"pids", r.integer(&v.Pids, 32, 32_768)},
		field{"tmp", r.size(&v.Tmp, MiB, 1024*GiB)},
	)
	if len(r.problems) == before && v.Tmp > v.Memory {
		r.wrong(path+".tmp", fmt.Sprintf("%s is more than memory, %s, which it counts as", v.Tmp, v.Memory), "want tmp to be at most memory")
	}
}

func (r *reader) limits(path string, n node, v *Limits) {
	before := len(r.problems)
	ms, hour := Duration(time.Millisecond), Duration(time.Hour)
	r.object(path, n,
		field{"block", r.duration(&v.Block, 10*ms, hour)},
		field{"cpu", r.duration(&v.CPU, 10*ms, hour)},
		field{"background", r.duration(&v.Background, 0, hour)},
		field{"wall", r.duration(&v.Wall, 10*ms, 24*hour)},
		field{"body", r.size(&v.Body, 1, GiB)},
		field{"code", r.size(&v.Code, 1, MiB)},
		field{"rate", r.number(&v.Rate, 0, 1e6)},
		field{"concurrency", r.integer(&v.Concurrency, 1, 100_000)},
		field{"quota", func(path string, n node) { r.quota(path, n, &v.Quota) }},
	)
	switch {
	case len(r.problems) > before:
	case v.Block > v.Wall:
		r.wrong(path+".block", fmt.Sprintf("%s is more than wall, %s", v.Block, v.Wall), "want block to be at most wall")
	case v.Block > v.CPU:
		r.wrong(path+".block", fmt.Sprintf("%s is more than cpu, %s", v.Block, v.CPU), "want block to be at most cpu")
	}
}

func (r *reader) quota(path string, n node, v *Quota) {
	const most = 1_000_000_000
	r.object(path, n,
		field{"minute", r.integer(&v.Minute, 0, most)},
		field{"hour", r.integer(&v.Hour, 0, most)},
		field{"day", r.integer(&v.Day, 0, most)},
		field{"week", r.integer(&v.Week, 0, most)},
		field{"month", r.integer(&v.Month, 0, most)},
	)
}

func (r *reader) sleep(path string, n node, v *Sleep) {
	before := len(r.problems)
	hour := Duration(time.Hour)
	r.object(path, n,
		field{"freeze", r.duration(&v.Freeze, 0, 24*hour)},
		field{"dormant", r.duration(&v.Dormant, 0, 30*24*hour)},
	)
	switch second := Duration(time.Second); {
	case len(r.problems) > before:
	case v.Freeze > 0 && v.Freeze < second:
		r.wrong(path+".freeze", v.Freeze.String()+" is too short", "want at least 1s, or 0s for never")
	case v.Dormant > 0 && v.Dormant < max(v.Freeze, second):
		r.wrong(path+".dormant", v.Dormant.String()+" is too short", "want at least freeze and at least 1s, or 0s for never")
	}
}

func (r *reader) lowerLimits(path string, n node, v *LowerLimits) {
	ms, hour := Duration(time.Millisecond), Duration(time.Hour)
	r.object(path, n,
		field{"block", r.duration(&v.Block, 10*ms, hour)},
		field{"cpu", r.duration(&v.CPU, 10*ms, hour)},
		field{"wall", r.duration(&v.Wall, 10*ms, 24*hour)},
		field{"background", r.duration(&v.Background, ms, hour)},
		field{"body", r.size(&v.Body, 1, GiB)},
		field{"rate", r.number(&v.Rate, 0.001, 1e6)},
		field{"concurrency", r.integer(&v.Concurrency, 1, 100_000)},
	)
}

func (r *reader) database(path string, n node, v *Database) {
	*v = Database{Engine: "postgres", Size: GiB}
	r.object(path, n,
		field{"engine", r.text(&v.Engine)},
		field{"size", r.size(&v.Size, 16*MiB, 64*1024*GiB)},
	)
	if v.Engine != "postgres" {
		r.wrong(path+".engine", show(v.Engine)+"is no known engine", `want "postgres"`)
	}
}

func (r *reader) placement(path string, n node, v *PlacementHints) {
	r.object(path, n,
		field{"labels", r.texts(&v.Labels, r.label)},
		field{"spread", func(path string, n node) {
			r.text(&v.Spread)(path, n)
			if n.kind == "text" && !labelPattern.MatchString(n.text) {
				r.wrong(path, "is no label's name", `want one like "zone"`)
			}
		}},
	)
}

var (
	labelPattern   = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_./-]{0,61}[A-Za-z0-9])?$`)
	modulePattern  = regexp.MustCompile(`^(@[a-z0-9~-][a-z0-9._~-]*/)?[a-z0-9~-][a-z0-9._~-]*$`)
	runtimePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$`)
	versionPattern = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$`)
)

func (r *reader) label(path, name, value string) {
	if !labelPattern.MatchString(name) || !labelPattern.MatchString(value) {
		r.wrong(path, "is no label", `want a name and a value of letters, digits, _ . / and -, like "zone": "a"`)
	}
}
