package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
	"bulkhead/modules"
)

// moduleView is all that the listings of modules go by.
type moduleView struct {
	list      modules.List
	wrong     map[string]string // by package: why what is said of it is not taken
	functions map[string]cluster.Function
	defaults  map[string]map[string]string
	sets      map[string]cluster.Set
	builds    map[string]cluster.Build
	revisions map[string]int64 // of builds' keys
}

// modules reads what is wanted, allowed and built.
func (s store) modules(ctx context.Context) (*moduleView, error) {
	v, err := s.look(ctx, cluster.ModulesPrefix, cluster.ModulePolicyKey, cluster.FunctionsPrefix, cluster.AppliedPrefix, cluster.SetsPrefix, cluster.BuildsPrefix)
	if err != nil {
		return nil, err
	}
	m := &moduleView{
		list: modules.List{Packages: map[string]cluster.Allow{}}, wrong: map[string]string{}, functions: map[string]cluster.Function{}, defaults: map[string]map[string]string{},
		sets: map[string]cluster.Set{}, builds: map[string]cluster.Build{}, revisions: map[string]int64{},
	}
	if m.list.Policy, err = s.policy(ctx); err != nil {
		return nil, err
	}
	under(v, cluster.SetsPrefix, 1, func(n []string, set cluster.Set, _ etcd.Event) { m.sets[n[0]] = set })
	under(v, cluster.BuildsPrefix, 1, func(n []string, b cluster.Build, e etcd.Event) { m.builds[n[0]], m.revisions[n[0]] = b, e.Revision })
	for key, e := range v.keys {
		if pkg, ok := strings.CutPrefix(key, cluster.ModulesPrefix); ok {
			if m.list.Packages[pkg], err = modules.ReadAllow(pkg, e.Value); err != nil {
				m.wrong[pkg] = err.Error()
				delete(m.list.Packages, pkg)
			}
		}
		if names, ok := cluster.SplitKey(key, cluster.FunctionsPrefix, 2); ok {
			m.functions[names[0]+"/"+names[1]], _ = cluster.DecodeFunction(names[1], e.Value)
		}
		if names, ok := cluster.SplitKey(key, cluster.AppliedPrefix, 1); ok {
			spec, _ := cluster.DecodeSpec(names[0], e.Value)
			m.defaults[names[0]] = spec.Modules
		}
	}
	return m, nil
}

// listed is a package as "modules list" shows it.
type listed struct {
	Package string `json:"package"`
	cluster.Allow
	Problem string           `json:"problem,omitempty"`
	Have    int              `json:"functions"`            // that have it
	Denied  []modules.Holder `json:"still_runs,omitempty"` // that have a version which is denied
}

func newModulesList(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List packages that are allowed or denied, and who still runs denied ones",
		Example: `  bulkhead modules list
  bulkhead modules list -o json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := a.lookModules(cmd.Context())
			if err != nil {
				return err
			}
			list := []listed{}
			for _, pkg := range slices.Sorted(maps.Keys(m.list.Packages)) {
				list = append(list, m.listed(pkg))
			}
			for _, pkg := range slices.Sorted(maps.Keys(m.wrong)) {
				list = append(list, listed{Package: pkg, Problem: m.wrong[pkg]})
			}
			return a.say(list, func(w io.Writer) { listTable(w, list) })
		},
	}
}

func (a *app) lookModules(ctx context.Context) (*moduleView, error) {
	s, err := a.open(ctx)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return s.modules(ctx)
}

func (m *moduleView) listed(pkg string) listed {
	l := listed{Package: pkg, Allow: m.list.Packages[pkg]}
	have := map[string]bool{}
	for _, h := range modules.Holders(pkg, m.functions, m.sets, m.list) {
		have[h.Tenant+"/"+h.Function] = true
		if h.Denied != "" {
			l.Denied = append(l.Denied, h)
		}
	}
	l.Have = len(have)
	return l
}

func listTable(w io.Writer, list []listed) {
	rows := [][]string{{"PACKAGE", "ALLOWED", "DENIED", "SCRIPTS", "FUNCTIONS", "REASON"}}
	for _, l := range list {
		if l.Problem != "" {
			rows = append(rows, []string{l.Package, "-", "-", "-", "-", "is not taken: " + firstLine(l.Problem)})
			continue
		}
		rows = append(rows, []string{l.Package, dash(strings.Join(l.Allow.Allow, ", ")), dash(strings.Join(l.Deny, ", ")), map[bool]string{true: "yes", false: "no"}[l.Scripts], strconv.Itoa(l.Have), dash(l.Reason)})
	}
	table(w, rows)
	for _, l := range list {
		stillRuns(w, l.Package, l.Denied)
	}
}

// stillRuns names functions that have what is denied.
func stillRuns(w io.Writer, pkg string, denied []modules.Holder) {
	for _, h := range denied {
		fmt.Fprintf(w, "still runs %s@%s, denied by %s: function %s of tenant %s\n", pkg, h.Version, h.Denied, h.Function, h.Tenant)
	}
}

// stillRuns says who has versions of a package that are denied.
func (a *app) stillRuns(ctx context.Context, pkg string) error {
	if a.output == "json" {
		return nil // "modules list -o json" has them
	}
	m, err := a.lookModules(ctx)
	if err == nil {
		stillRuns(plainWriter{a.out}, pkg, m.listed(pkg).Denied)
	}
	return err
}

func newModulesWhy(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "why PACKAGE",
		Short:   "Show which functions have a package, and by which way",
		Example: `  bulkhead modules why debug`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := a.lookModules(cmd.Context())
			if err != nil {
				return err
			}
			holders := modules.Holders(args[0], m.functions, m.sets, m.list)
			return a.say(append([]modules.Holder{}, holders...), func(w io.Writer) {
				entry, said := m.list.Packages[args[0]]
				fmt.Fprintf(w, "%s: %s\n", args[0], map[bool]string{true: saysOf(entry), false: "not on the list"}[said])
				rows := [][]string{{"TENANT", "FUNCTION", "VERSION", "WAY", "SET", "DENIED"}}
				for _, h := range holders {
					rows = append(rows, []string{h.Tenant, h.Function, h.Version, cmp.Or(h.Way, "wanted itself"), h.Set[:12], dash(h.Denied)})
				}
				if len(holders) > 0 {
					table(w, rows)
				}
			})
		},
	}
}

func newModulesBuilds(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "builds [BUILD]",
		Short: "Show how far the builder is, or one build's log",
		Example: `  bulkhead modules builds
  bulkhead modules builds 1f0c`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := a.lookModules(cmd.Context())
			if err != nil {
				return err
			}
			if len(args) == 1 {
				return a.oneBuild(m, args[0])
			}
			return a.say(m.builds, func(w io.Writer) {
				rows := [][]string{{"BUILD", "STATE", "SINCE", "BY", "WANTED", "SAYS"}}
				for _, id := range slices.SortedFunc(maps.Keys(m.builds), func(x, y string) int { return m.builds[y].Since.Compare(m.builds[x].Since) }) {
					b := m.builds[id]
					rows = append(rows, []string{id[:min(8, len(id))], b.State, age(b.Since), dash(b.By), wantedText(b.Want), dash(cmp.Or(b.Error, buildStep(b)))})
				}
				table(w, rows)
			})
		},
	}
}

// oneBuild shows a build by its name, or how that begins.
func (a *app) oneBuild(m *moduleView, name string) error {
	for _, id := range slices.Sorted(maps.Keys(m.builds)) {
		if b := m.builds[id]; strings.HasPrefix(id, name) {
			return a.say(b, func(w io.Writer) {
				fmt.Fprintf(w, "build %s: %s for %s\nwanted: %s\n", id, b.State, age(b.Since), wantedText(b.Want))
				if b.Error != "" {
					fmt.Fprintln(w, b.Error)
				}
				if b.Set != "" {
					fmt.Fprintf(w, "set: %s, %d packages, %s\n", b.Set, len(m.sets[b.Set].Packages), m.sets[b.Set].Size)
				}
				fmt.Fprintf(w, "\n%s", b.Log)
			})
		}
	}
	return fail(exitNotFound, "bulkhead modules builds shows those there are", "there is no build %q", name)
}

// wantedText is a want on one line.
func wantedText(want map[string]string) string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if _, exact := cluster.SplitModule(name); exact != "" {
			words = append(words, name)
		} else {
			words = append(words, name+"@"+want[name])
		}
	}
	return strings.Join(words, " ")
}

// buildStep is what a build that is under way does.
func buildStep(b cluster.Build) (step string) {
	if b.State != cluster.BuildRunning {
		return ""
	}
	for line := range strings.Lines(b.Log) {
		if s, ok := strings.CutPrefix(line, "bulkhead: "); ok {
			step = strings.TrimSpace(s)
		}
	}
	return step
}
