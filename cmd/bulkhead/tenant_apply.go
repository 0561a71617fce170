package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"bulkhead/cluster"
)

// application is what `tenant apply` was asked for.
type application struct {
	file, name  string
	check, wait bool
	timeout     time.Duration
}

func newTenantApply(a *app) *cobra.Command {
	var p application
	c := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Register a tenant, or change one",
		Long: `Write a tenant's spec, given as YAML or JSON; "-" reads standard input.
The tenant's name is --name, else "name" in the file, else the file's name
without its ending. A spec that is not valid is not written: everything that
is wrong with it is said at once.`,
		Example: `  bulkhead tenant apply -f acme.yaml
  bulkhead tenant apply -f acme.yaml --wait
  bulkhead tenant apply --name acme -f - < spec.json
  bulkhead tenant apply -f acme.yaml --check`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.apply(cmd.Context(), p) },
	}
	f := c.Flags()
	f.StringVarP(&p.file, "file", "f", "", "the spec's file; - is standard input (required)")
	f.StringVar(&p.name, "name", "", "the tenant's name")
	f.BoolVar(&p.check, "check", false, "only say whether it is valid")
	f.BoolVar(&p.wait, "wait", false, "wait until every instance is ready with it")
	f.DurationVar(&p.timeout, "timeout", 30*time.Second, "how long to wait")
	_ = c.MarkFlagRequired("file")
	return c
}

func (a *app) apply(ctx context.Context, p application) error {
	data, err := a.readInput(p.file)
	if err != nil {
		return err
	}
	name, data, warnings, err := checkSpec(p, data)
	if err != nil {
		return err
	}
	for _, w := range warnings {
		a.note("warning: %s", w)
	}
	if p.check {
		return a.say(map[string]any{"tenant": name, "valid": true, "warnings": warnings}, func(w io.Writer) {
			fmt.Fprintf(w, "the spec of tenant %s is valid\n", name)
		})
	}
	s, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	return a.writeSpec(ctx, s, name, data, p, warnings)
}

func (a *app) writeSpec(ctx context.Context, s store, name string, data []byte, p application, warnings []string) error {
	old, revision, err := s.read(ctx, cluster.TenantKey(name))
	if err != nil {
		return err
	}
	data, same, err := a.sealSpec(ctx, s, name, old, data)
	if err != nil {
		return err
	}
	word := "unchanged"
	if revision == 0 || !same {
		r, err := s.Put(ctx, cluster.TenantKey(name), string(data))
		if err != nil {
			return fmt.Errorf("cannot write the spec of tenant %s: %w", name, err)
		}
		word = map[bool]string{true: "registered", false: "changed"}[revision == 0]
		revision = r.Header.Revision
	}
	result := struct {
		Tenant   string    `json:"tenant"`
		Result   string    `json:"result"`
		Revision int64     `json:"revision"`
		Warnings []string  `json:"warnings,omitempty"`
		Standing *standing `json:"standing,omitempty"`
	}{name, word, revision, warnings, nil}
	if p.wait {
		v, ok := s.wait(ctx, p.timeout, func(v *view) bool {
			st := standings(v)[name]
			return st != nil && st.inForce(revision)
		}, standingPrefixes...)
		st := standings(v)[name]
		if !ok {
			return fail(exitLate, "bulkhead tenant show "+name+" follows it up", "tenant %s is %s, but not ready within %s: %s", name, word, p.timeout, st.why())
		}
		result.Standing = st
	}
	return a.say(result, func(w io.Writer) {
		fmt.Fprintf(w, "tenant %s %s (revision %d)\n", name, word, revision)
		if result.Standing != nil {
			for _, i := range result.Standing.Instances {
				fmt.Fprintf(w, "  %s is ready on %s\n", i.Name, i.Host)
			}
		}
	})
}

// readInput reads a file, or standard input for "-".
func (a *app) readInput(file string) ([]byte, error) {
	if file == "-" {
		return io.ReadAll(a.in)
	}
	data, err := os.ReadFile(file)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, fail(exitNotFound, "", "there is no file %s", file)
	case err != nil:
		return nil, fmt.Errorf("cannot read: %w", err)
	}
	return data, nil
}

// checkSpec finds the tenant's name, makes JSON of YAML and returns what is to
// be written, or an error with all that is wrong.
func checkSpec(p application, data []byte) (name string, spec []byte, warnings []string, err error) {
	if spec, err = toJSON(data); err != nil {
		return "", nil, nil, fail(exitInvalid, "", "%s is neither JSON nor YAML: %w", p.file, err)
	}
	if name = specName(p, spec); name == "" {
		return "", nil, nil, usageError(errors.New(`whose spec is it? Add --name, or "name" to the file`))
	}
	_, problems := cluster.DecodeSpec(name, spec)
	if err := cluster.Invalid(problems); err != nil {
		return "", nil, nil, fail(exitInvalid, "nothing was written", "the spec of tenant %q is not valid:\n  %s", name, strings.ReplaceAll(err.Error(), "\n", "\n  "))
	}
	return name, spec, cluster.Warnings(problems), nil
}

// toJSON leaves JSON as it is, so that errors name its own lines.
func toJSON(data []byte) ([]byte, error) {
	if trimmed := bytes.TrimSpace(data); len(trimmed) > 0 && trimmed[0] == '{' {
		return data, nil
	}
	return yaml.YAMLToJSONStrict(data)
}

func specName(p application, spec []byte) string {
	if p.name != "" {
		return p.name
	}
	var named struct{ Name, Tenant string }
	_ = json.Unmarshal(spec, &named)
	switch {
	case named.Name != "":
		return named.Name
	case named.Tenant != "":
		return named.Tenant
	case p.file == "-":
		return ""
	}
	base := filepath.Base(p.file)
	return strings.TrimSuffix(base, filepath.Ext(base))
}
