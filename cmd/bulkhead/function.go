package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

func newFunction(a *app) *cobra.Command {
	c := group("function", "Deploy, list and remove a tenant's functions",
		"A function is a key in etcd that holds its code, its metadata and its secrets.",
		"  bulkhead function deploy acme hello hello.js\n  bulkhead function list acme")
	c.AddCommand(newFunctionDeploy(a), newFunctionList(a), newFunctionRm(a))
	return c
}

// record is a function as listings show it: without code and secrets.
type record struct {
	Name     string            `json:"name"`
	File     string            `json:"file"`
	Version  string            `json:"version"`
	Bytes    int               `json:"bytes"`
	Created  time.Time         `json:"created,omitzero"`
	Meta     map[string]string `json:"meta,omitempty"`
	Secrets  []string          `json:"secrets,omitempty"` // their names
	Revision int64             `json:"revision"`
	Problem  string            `json:"problem,omitempty"`
}

func (a *app) describe(sealing cluster.Sealing, tenant, name string, data []byte, revision int64) record {
	f, problems := cluster.DecodeFunction(name, data)
	open, err := a.openFunction(sealing, tenant, name, f)
	if f = open; err != nil {
		f.Version = "(sealed)" // its version is that of what is sealed too
	}
	r := record{
		Name: name, File: f.File, Version: f.Version, Bytes: len(f.Code), Created: f.Created,
		Meta: f.Meta, Secrets: slices.Sorted(maps.Keys(f.Secrets)), Revision: revision,
	}
	if err := cluster.Invalid(problems); err != nil {
		r.Problem = err.Error()
	}
	return r
}

// functions reads a tenant's functions by name.
func (s store) functions(ctx context.Context, tenant string) (map[string]etcd.Event, error) {
	v, err := s.look(ctx, cluster.TenantFunctions(tenant))
	if err != nil {
		return nil, err
	}
	all := map[string]etcd.Event{}
	for key, e := range v.keys {
		if names, ok := cluster.SplitKey(key, cluster.TenantFunctions(tenant), 1); ok {
			all[names[0]] = e
		}
	}
	return all, nil
}

func newFunctionList(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list TENANT",
		Short: "List a tenant's functions",
		Example: `  bulkhead function list acme
  bulkhead function list acme -o json`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeTenants,
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			defer s.Close()
			functions, err := s.functions(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if _, revision, err := s.read(cmd.Context(), cluster.TenantKey(args[0])); err != nil || revision == 0 && len(functions) == 0 {
				return orElse(err, noTenant(args[0]))
			}
			sealing, _, err := s.lockOf(cmd.Context())
			if err != nil {
				return err
			}
			list := []record{}
			for _, name := range slices.Sorted(maps.Keys(functions)) {
				list = append(list, a.describe(sealing, args[0], name, functions[name].Value, functions[name].Revision))
			}
			return a.say(list, func(w io.Writer) { functionTable(w, list) })
		},
	}
}

func orElse(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

func functionTable(w io.Writer, list []record) {
	rows := [][]string{{"FUNCTION", "VERSION", "BYTES", "AGE", "FILE", "SAYS"}}
	for _, r := range list {
		rows = append(rows, []string{r.Name, fmt.Sprintf("%.12s", r.Version), strconv.Itoa(r.Bytes), age(r.Created), r.File, dash(firstLine(r.Problem))})
	}
	table(w, rows)
}

func newFunctionRm(a *app) *cobra.Command {
	var (
		noWait  bool
		timeout time.Duration
	)
	c := &cobra.Command{
		Use:               "rm TENANT FUNCTION",
		Short:             "Remove a function",
		Example:           `  bulkhead function rm acme hello`,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: a.completeFunctions,
		RunE: func(cmd *cobra.Command, args []string) error {
			tenant, name := args[0], args[1]
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			defer s.Close()
			r, err := s.Delete(cmd.Context(), cluster.FunctionKey(tenant, name))
			if err != nil {
				return fmt.Errorf("cannot remove function %s: %w", name, err)
			}
			if r.Deleted == 0 {
				return fail(exitNotFound, "bulkhead function list "+tenant+" shows those there are", "tenant %q has no function %q", tenant, name)
			}
			if err := a.live(cmd.Context(), s, tenant, name, r.Header.Revision, noWait, timeout); err != nil {
				return err
			}
			return a.say(map[string]any{"tenant": tenant, "function": name, "removed": true}, func(w io.Writer) {
				fmt.Fprintf(w, "function %s of tenant %s removed\n", name, tenant)
			})
		},
	}
	c.Flags().BoolVar(&noWait, "no-wait", false, "don't wait until every instance has forgotten it")
	c.Flags().DurationVar(&timeout, "timeout", 15*time.Second, "how long to wait")
	return c
}

// live waits until every instance of the tenant serves functions as of a
// revision. A tenant that nothing was ever placed for is not waited for.
func (a *app) live(ctx context.Context, s store, tenant, name string, revision int64, noWait bool, timeout time.Duration) error {
	if noWait {
		return nil
	}
	v, ok := s.wait(ctx, timeout, func(v *view) bool {
		st := standings(v)[tenant]
		return st == nil || st.has(revision)
	}, standingPrefixes...)
	if ok {
		return nil
	}
	return fail(exitLate, "it will be live once that is mended: bulkhead tenant show "+tenant,
		"function %s is written, but not live within %s: %s", name, timeout, standings(v)[tenant].why())
}
