package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/cluster"
	"bulkhead/modules"
)

// outdated is a package of which there is something newer than functions have.
type outdated struct {
	Package   string   `json:"package"`
	Have      []string `json:"have"`              // versions
	Functions int      `json:"functions"`         // that have an older one than is allowed
	Allowed   string   `json:"allowed,omitempty"` // newest that is
	Newest    string   `json:"newest"`            // in the registry
}

func newModulesOutdated(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "outdated",
		Short: "Show packages of the list of which there are newer versions than functions have",
		Long: `outdated asks the registry, with npm as it is configured on this machine, for the
versions of those packages of the list that functions have.`,
		Example: `  bulkhead modules outdated`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			m, err := a.lookModules(cmd.Context())
			if err != nil {
				return err
			}
			list := []outdated{}
			for _, pkg := range slices.Sorted(maps.Keys(m.list.Packages)) {
				holders := modules.Holders(pkg, m.functions, m.sets, m.list)
				if len(holders) == 0 {
					continue
				}
				versions, err := npmVersions(cmd.Context(), pkg)
				if err != nil {
					return err
				}
				if o, ok := m.outdated(pkg, versions, holders); ok {
					list = append(list, o)
				}
			}
			return a.say(list, func(w io.Writer) {
				rows := [][]string{{"PACKAGE", "HAVE", "NEWEST ALLOWED", "NEWEST", "FUNCTIONS"}}
				for _, o := range list {
					rows = append(rows, []string{o.Package, strings.Join(o.Have, ", "), dash(o.Allowed), o.Newest, fmt.Sprint(o.Functions)})
				}
				table(w, rows)
			})
		},
	}
}

// outdated compares what functions have of a package with what there is.
func (m *moduleView) outdated(pkg string, versions []string, holders []modules.Holder) (o outdated, ok bool) {
	o.Package = pkg
	o.Allowed, o.Newest = modules.Newest(versions, m.list.Packages[pkg]), modules.Newest(versions, cluster.Allow{Allow: []string{"*"}})
	older := map[string]bool{}
	for _, h := range holders {
		if !slices.Contains(o.Have, h.Version) {
			o.Have = append(o.Have, h.Version)
		}
		if modules.Older(h.Version, o.Allowed) {
			older[h.Tenant+"/"+h.Function] = true
		}
		ok = ok || modules.Older(h.Version, o.Newest)
	}
	o.Functions = len(older)
	return o, ok
}

// npmVersions asks the registry which versions of a package there are.
func npmVersions(ctx context.Context, pkg string) (versions []string, err error) {
	npm, err := exec.LookPath("npm")
	if err != nil {
		return nil, fail(exitFailure, "Debian and Ubuntu: apt-get install npm", "cannot ask the registry: npm is not installed")
	}
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, npm, "view", "--json", pkg, "versions")
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("cannot ask the registry for %s: %w: %s", pkg, err, firstLine(strings.TrimSpace(stderr.String())))
	}
	var one string
	if json.Unmarshal(out, &one) == nil { // there is one, and npm says it without a list
		return []string{one}, nil
	}
	if err := json.Unmarshal(out, &versions); err != nil {
		return nil, fmt.Errorf("cannot read what npm says of %s: %w", pkg, err)
	}
	return versions, nil
}

func newModulesUpgrade(a *app) *cobra.Command {
	var dry, noWait bool
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "upgrade PACKAGE@VERSION",
		Short: "Build anew what has an older version of a package, and roll it out",
		Long: `upgrade shows which tenants and functions have an older version of a package than
VERSION, has the builder make their sets anew, and waits until their functions
have them. npm then chooses the newest versions that are wanted and allowed, so
other packages may become newer too. Functions whose wants exclude VERSION stay
as they are, and are named.`,
		Example: `  bulkhead modules upgrade lodash@4.17.21 --dry-run
  bulkhead modules upgrade lodash@4.17.21`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			defer s.Close()
			return a.upgrade(cmd.Context(), s, args[0], dry, noWait, timeout)
		},
	}
	c.Flags().BoolVar(&dry, "dry-run", false, "only show who is affected")
	c.Flags().BoolVar(&noWait, "no-wait", false, "don't wait until functions have the new sets")
	c.Flags().DurationVar(&timeout, "timeout", 20*time.Minute, "how long to wait")
	return c
}

func (a *app) upgrade(ctx context.Context, s store, given string, dry, noWait bool, timeout time.Duration) error {
	pkg, version := cluster.SplitModule(given)
	if version == "" || cluster.CheckModule(pkg) != nil {
		return fail(exitUsage, "like lodash@4.17.21", "%q: want a package and a version", given)
	}
	m, err := s.modules(ctx)
	if err != nil {
		return err
	}
	if by, ok := modules.Denied(m.list, pkg, version); ok {
		return fail(exitInvalid, "choose another version", "%s is denied itself (%s)", given, by)
	}
	upgrades := modules.Upgrades(pkg, version, m.functions, m.defaults, m.sets, m.list)
	if dry || len(upgrades) == 0 {
		return a.say(append([]modules.Upgrade{}, upgrades...), func(w io.Writer) { upgradeTable(w, given, upgrades) })
	}
	if a.output == "text" {
		upgradeTable(plainWriter{a.out}, given, upgrades)
	}
	var asked []modules.Upgrade
	for _, u := range upgrades {
		if u.Stays != "" {
			continue
		}
		if err := s.rebuild(ctx, u.Build, m.revisions[u.Build], m.builds[u.Build]); err != nil {
			return err
		}
		asked = append(asked, u)
	}
	if noWait || len(asked) == 0 {
		return nil
	}
	if err := a.rebuilt(ctx, s, asked, timeout); err != nil {
		return err
	}
	if m, err = s.modules(ctx); err != nil {
		return err
	}
	left := slices.DeleteFunc(modules.Upgrades(pkg, version, m.functions, m.defaults, m.sets, m.list), func(u modules.Upgrade) bool { return u.Stays != "" })
	return a.say(map[string]any{"built": asked, "left": left}, func(w io.Writer) {
		fmt.Fprintf(w, "built anew: %d sets; their functions have them\n", len(asked))
		for _, u := range left {
			fmt.Fprintf(w, "%s has %s still: whatever wants it there, or the list, excludes %s\n", strings.Join(u.Functions, ", "), strings.Join(u.From, ", "), version)
		}
	})
}

func upgradeTable(w io.Writer, given string, upgrades []modules.Upgrade) {
	if len(upgrades) == 0 {
		fmt.Fprintf(w, "no function has an older version than %s\n", given)
		return
	}
	rows := [][]string{{"FUNCTION", "HAS", "WHAT BECOMES OF IT"}}
	for _, u := range upgrades {
		for _, f := range u.Functions {
			rows = append(rows, []string{f, strings.Join(u.From, ", "), map[bool]string{true: "is built anew", false: "stays: " + u.Stays}[u.Stays == ""]})
		}
	}
	table(w, rows)
}

// rebuild asks for a build anew.
func (s store) rebuild(ctx context.Context, id string, revision int64, b cluster.Build) error {
	b.State, b.Error, b.Log, b.Since = cluster.BuildQueued, "", "", time.Now().UTC().Truncate(time.Second)
	data, err := json.Marshal(b)
	if err != nil {
		return err
	}
	key := cluster.BuildKey(id)
	r, err := s.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", revision)).Then(clientv3.OpPut(key, string(data))).Commit()
	if err == nil && !r.Succeeded {
		err = fmt.Errorf("it has changed just now: try again")
	}
	if err != nil {
		return fmt.Errorf("cannot ask for build %.8s anew: %w", id, err)
	}
	return nil
}

// rebuilt waits until builds have ended and their functions have what came of them.
func (a *app) rebuilt(ctx context.Context, s store, asked []modules.Upgrade, timeout time.Duration) error {
	said, failed := map[string]string{}, error(nil)
	_, ok := s.wait(ctx, timeout, func(v *view) bool {
		over := true
		for _, u := range asked {
			b, _ := get[cluster.Build](v, cluster.BuildKey(u.Build))
			if words := strings.TrimSpace(b.State + " " + buildStep(b)); said[u.Build] != words {
				said[u.Build] = words
				a.note("  build %.8s (%s): %s", u.Build, wantedText(b.Want), words)
			}
			if b.State == cluster.BuildFailed {
				failed = fail(exitLate, "bulkhead modules builds "+u.Build[:8]+" has its log; functions keep what they have", "build %.8s failed: %s", u.Build, b.Error)
			}
			over = over && b.State == cluster.BuildAvailable && have(v, u.Functions, b.Set)
		}
		return over || failed != nil
	}, cluster.BuildsPrefix, cluster.FunctionsPrefix)
	if !ok {
		return fail(exitLate, "bulkhead modules builds shows how far it is", "not all is built within %s", timeout)
	}
	return failed
}

// have reports whether functions have a set, those that are there still.
func have(v *view, functions []string, set string) bool {
	for _, name := range functions {
		f, there := get[cluster.Function](v, cluster.FunctionsPrefix+name)
		if there && (f.Modules == nil || f.Modules.Set != set) {
			return false
		}
	}
	return true
}
