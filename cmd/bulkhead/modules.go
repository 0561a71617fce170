package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/cluster"
	"bulkhead/modules"
)

func newModules(a *app) *cobra.Command {
	c := group("modules", "Say which npm packages functions may have, and see who has them",
		`modules keeps the list of npm packages that functions may require. What is not on
it is refused before the registry is asked for it; what an allowed package
depends on comes with it, unless it is denied, or "modules policy" says that it
has to be on the list itself.`,
		`  bulkhead modules allow lodash@^4.17.21
  bulkhead modules why lodash`)
	c.AddCommand(newModulesAllow(a), newModulesDeny(a), newModulesRm(a), newModulesPolicy(a), newModulesList(a), newModulesWhy(a), newModulesBuilds(a), newModulesOutdated(a), newModulesUpgrade(a))
	return c
}

func newModulesAllow(a *app) *cobra.Command {
	var scripts bool
	var reason string
	c := &cobra.Command{
		Use:   "allow PACKAGE[@RANGE]",
		Short: "Let functions have a package, in any or some versions",
		Long: `allow adds a range of versions, in npm's notation, to those that functions may
have of a package; without one, all. If the very same range is denied, it is
that no longer. With --scripts the package's install scripts may run, in a
container without a network, and its native code be compiled.`,
		Example: `  bulkhead modules allow express@^4.18
  bulkhead modules allow better-sqlite3@^12 --scripts --reason "asked for by acme, looked at by Eve"`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.changeAllow(cmd.Context(), args[0], func(e *cluster.Allow, versions string) {
				e.Deny = without(e.Deny, versions)
				e.Allow = append(without(e.Allow, versions), versions)
				if cmd.Flags().Changed("scripts") {
					e.Scripts = scripts
				}
				if reason != "" {
					e.Reason = reason
				}
			})
		},
	}
	c.Flags().BoolVar(&scripts, "scripts", false, "its install scripts may run; --scripts=false: no longer")
	c.Flags().StringVar(&reason, "reason", "", "why, for those who wonder")
	return c
}

func newModulesDeny(a *app) *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use:   "deny PACKAGE@RANGE",
		Short: "Refuse versions of a package, also where others depend on them",
		Long: `deny refuses a range of versions at once: nobody gets them who does not have them
yet. Functions that have them go on, and are listed; "modules upgrade" gets them
newer ones.`,
		Example: `  bulkhead modules deny lodash@'<4.17.21' --reason CVE-2021-23337`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !strings.Contains(args[0][min(1, len(args[0])):], "@") {
				return fail(exitUsage, "all of them is "+args[0]+"@*", "deny needs a range of versions")
			}
			if err := a.changeAllow(cmd.Context(), args[0], func(e *cluster.Allow, versions string) {
				e.Deny = append(without(e.Deny, versions), versions)
				if reason != "" {
					e.Reason = reason
				}
			}); err != nil {
				return err
			}
			pkg, _, _ := modules.SplitSpec(args[0])
			return a.stillRuns(cmd.Context(), pkg)
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why, for those who wonder")
	return c
}

func without(list []string, one string) []string {
	return slices.DeleteFunc(list, func(s string) bool { return s == one })
}

// changeAllow changes what is said of a package.
func (a *app) changeAllow(ctx context.Context, given string, change func(e *cluster.Allow, versions string)) error {
	pkg, versions, err := modules.SplitSpec(given)
	if err == nil {
		err = cluster.CheckModule(pkg)
	}
	if err != nil {
		return fail(exitInvalid, "nothing was written", "%q: %w", given, err)
	}
	s, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	entry, revision, err := s.allow(ctx, pkg)
	if err != nil {
		return err
	}
	change(&entry, versions)
	data, err := json.Marshal(entry)
	if err != nil {
		return err
	}
	key := cluster.ModuleKey(pkg)
	r, err := s.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", revision)).Then(clientv3.OpPut(key, string(data))).Commit()
	if err != nil {
		return fmt.Errorf("cannot write what is said of %s: %w", pkg, err)
	}
	if !r.Succeeded {
		return fail(exitFailure, "see what it says now: bulkhead modules list; then try again", "somebody else has changed what is said of %s just now", pkg)
	}
	return a.say(entry, func(w io.Writer) { fmt.Fprintf(w, "%s: %s\n", pkg, saysOf(entry)) })
}

// allow is what is said of a package; revision 0: nothing.
func (s store) allow(ctx context.Context, pkg string) (entry cluster.Allow, revision int64, err error) {
	data, revision, err := s.read(ctx, cluster.ModuleKey(pkg))
	if err != nil || revision == 0 {
		return entry, 0, err
	}
	if entry, err = modules.ReadAllow(pkg, data); err != nil {
		return entry, 0, fail(exitInvalid, "remove it first: bulkhead modules rm "+pkg, "what is said of %s is not valid:\n  %s", pkg, strings.ReplaceAll(err.Error(), "\n", "\n  "))
	}
	return entry, revision, nil
}

// saysOf is an entry in words.
func saysOf(e cluster.Allow) string {
	words := "allowed: " + dash(strings.Join(e.Allow, ", "))
	if len(e.Deny) > 0 {
		words += "; denied: " + strings.Join(e.Deny, ", ")
	}
	if e.Scripts {
		words += "; its install scripts may run"
	}
	if e.Reason != "" {
		words += " (" + e.Reason + ")"
	}
	return words
}

func newModulesRm(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "rm PACKAGE",
		Short:   "Take a package off the list",
		Example: `  bulkhead modules rm left-pad`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			defer s.Close()
			r, err := s.Delete(cmd.Context(), cluster.ModuleKey(args[0]))
			if err != nil {
				return fmt.Errorf("cannot take %s off the list: %w", args[0], err)
			}
			if r.Deleted == 0 {
				return fail(exitNotFound, "bulkhead modules list shows those there are", "nothing is said of package %q", args[0])
			}
			return a.say(map[string]any{"package": args[0], "removed": true}, func(w io.Writer) {
				fmt.Fprintf(w, "%s is off the list; who has it keeps it (bulkhead modules why %s)\n", args[0], args[0])
			})
		},
	}
}

func newModulesPolicy(a *app) *cobra.Command {
	var listed bool
	c := &cobra.Command{
		Use:   "policy",
		Short: "Show or set what holds for packages that others depend on",
		Example: `  bulkhead modules policy
  bulkhead modules policy --listed`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			defer s.Close()
			policy := cluster.ModulePolicy{Listed: listed}
			if cmd.Flags().Changed("listed") {
				data, _ := json.Marshal(policy)
				if _, err := s.Put(cmd.Context(), cluster.ModulePolicyKey, string(data)); err != nil {
					return fmt.Errorf("cannot write the policy: %w", err)
				}
			} else if policy, err = s.policy(cmd.Context()); err != nil {
				return err
			}
			return a.say(policy, func(w io.Writer) {
				fmt.Fprintln(w, map[bool]string{
					true: "packages that others depend on have to be on the list themselves", false: "packages that allowed ones depend on come with them, unless they are denied",
				}[policy.Listed])
			})
		},
	}
	c.Flags().BoolVar(&listed, "listed", false, "packages that others depend on have to be on the list themselves; --listed=false: no longer")
	return c
}

func (s store) policy(ctx context.Context) (p cluster.ModulePolicy, err error) {
	data, revision, err := s.read(ctx, cluster.ModulePolicyKey)
	if err != nil || revision == 0 {
		return p, err
	}
	p, problems := cluster.DecodeModulePolicy(data)
	return p, cluster.Invalid(problems)
}
