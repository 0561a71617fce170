package main

import (
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

	"bulkhead/cluster"
	"bulkhead/modules"
)

// deployment is what `function deploy` was asked for.
type deployment struct {
	tenant, name, file string
	secrets, meta      []string
	limits             []string
	modules            []string // npm packages and ranges
	readPackage        bool     // the package.json beside the file counts
	noWait             bool
	timeout            time.Duration
	buildTimeout       time.Duration
}

func newFunctionDeploy(a *app) *cobra.Command {
	var d deployment
	c := &cobra.Command{
		Use:   "deploy TENANT FUNCTION FILE",
		Short: "Deploy a function, or a new version of one",
		Long: `Write a function's code and wait until every instance of its tenant serves it;
"-" reads the code from standard input. The file's ending tells the language:
.js, .cjs, .mjs or .ts. A deployment replaces code, metadata, secrets, limits and
modules.

The npm modules that it may require are the dependencies of the package.json
beside the file, those of --module, and require('lodash@4.17.21') in the code.
They are built once; until they are, the function's last version goes on.

A secret's value that begins with @ is read from that file, so that it appears
neither in the shell's history nor in the list of processes.`,
		Example: `  bulkhead function deploy acme hello hello.js
  bulkhead function deploy acme hello hello.ts --secret API_KEY=@api.key --meta owner=web
  bulkhead function deploy acme hello hello.js --limit wall=5s --limit block=200ms
  bulkhead function deploy acme api api.js --module express@^4.18 --module zod
  echo 'module.exports = cb => cb(null, "hi")' | bulkhead function deploy acme hi -`,
		Args:              cobra.ExactArgs(3),
		ValidArgsFunction: a.completeFunctions,
		RunE: func(cmd *cobra.Command, args []string) error {
			d.tenant, d.name, d.file = args[0], args[1], args[2]
			return a.deploy(cmd.Context(), d)
		},
	}
	f := c.Flags()
	f.StringArrayVar(&d.secrets, "secret", nil, "name=value or name=@file; may be repeated")
	f.StringArrayVar(&d.meta, "meta", nil, "name=value; may be repeated")
	f.StringArrayVar(&d.modules, "module", nil, "npm package that it may require, as name@range or name; may be repeated")
	f.BoolVar(&d.readPackage, "package-json", true, "take the dependencies of the package.json beside the file")
	addLimitFlag(c, &d.limits, functionLimits)
	f.BoolVar(&d.noWait, "no-wait", false, "don't wait until it is live")
	f.DurationVar(&d.timeout, "timeout", 15*time.Second, "how long to wait")
	f.DurationVar(&d.buildTimeout, "build-timeout", defaultBuildTimeout, "how long to wait for its npm modules, before that")
	return c
}

func (a *app) deploy(ctx context.Context, d deployment) error {
	f, err := a.function(d)
	if err != nil {
		return err
	}
	s, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	spec, err := s.spec(ctx, d.tenant)
	if err != nil {
		return err
	}
	if size := cluster.Bytes(len(f.Code)); size > spec.Limits.Code {
		return fail(exitInvalid, "raise limits.code in the tenant's spec, or write less", "the code is %d bytes long; tenant %s may have %s", size, d.tenant, spec.Limits.Code)
	}
	result, revision, err := a.writeFunction(ctx, s, d.tenant, d.name, f)
	if err != nil {
		return err
	}
	want := map[string]string(nil)
	if f.Modules != nil {
		want = modules.Wants(spec.Modules, f.Modules.Want)
	}
	if revision, err = a.built(ctx, s, d, want, revision); err != nil {
		return err
	}
	started := time.Now()
	if err := a.live(ctx, s, d.tenant, d.name, revision, d.noWait, d.timeout); err != nil {
		return err
	}
	url := fmt.Sprintf("%s/%s/%s", strings.TrimSuffix(a.proxy, "/"), d.tenant, d.name)
	return a.say(map[string]any{
		"tenant": d.tenant, "function": d.name, "result": result, "version": f.Digest(), "revision": revision,
		"url": url, "live": !d.noWait, "live_after_ms": time.Since(started).Milliseconds(),
	}, func(w io.Writer) {
		fmt.Fprintf(w, "function %s of tenant %s %s, version %.12s\n", d.name, d.tenant, result, f.Digest())
		fmt.Fprintf(w, "  %s\n", url)
	})
}

// function makes a function of files and flags, checked as the agent will.
func (a *app) function(d deployment) (cluster.Function, error) {
	code, err := a.readInput(d.file)
	if err != nil {
		return cluster.Function{}, err
	}
	f := cluster.Function{File: filepath.Base(d.file), Code: string(code), Created: time.Now().UTC().Truncate(time.Second)}
	if d.file == "-" {
		f.File = d.name + ".js"
	}
	if f.Secrets, err = pairs("secret", d.secrets, true); err != nil {
		return f, err
	}
	if f.Meta, err = pairs("meta", d.meta, false); err != nil {
		return f, err
	}
	if f.Limits, err = lowerLimits(d.limits, functionLimits); err != nil {
		return f, err
	}
	want, err := d.want(f.Code, f.Meta)
	if err != nil {
		return f, err
	}
	if want != nil {
		f.Modules = &cluster.FunctionModules{Want: want}
	}
	data, err := json.Marshal(f)
	if err != nil {
		return f, err
	}
	_, problems := cluster.DecodeFunction(d.name, data)
	if err := cluster.Invalid(problems); err != nil {
		return f, fail(exitInvalid, "nothing was written", "function %q is not valid:\n  %s", d.name, strings.ReplaceAll(err.Error(), "\n", "\n  "))
	}
	return f, nil
}

// pairs reads name=value flags; files says that @file stands for its content.
func pairs(flag string, given []string, files bool) (map[string]string, error) {
	m := map[string]string{}
	for _, g := range given {
		name, value, ok := strings.Cut(g, "=")
		if !ok || name == "" {
			return nil, usageError(fmt.Errorf("--%s: want name=value", flag)) // quotes no secret
		}
		if file, isFile := strings.CutPrefix(value, "@"); files && isFile {
			data, err := os.ReadFile(file)
			if err != nil {
				code := exitFailure
				if errors.Is(err, os.ErrNotExist) {
					code = exitNotFound
				}
				return nil, fail(code, "a value that begins with @ names a file", "cannot read --%s %s: %w", flag, name, err)
			}
			value = strings.TrimSuffix(string(data), "\n")
		}
		m[name] = value
	}
	if len(m) == 0 {
		return nil, nil
	}
	return m, nil
}

// writeFunction writes a function unless it is there already, whenever it was
// created. Its secrets are sealed if there is something to seal them with.
func (a *app) writeFunction(ctx context.Context, s store, tenant, name string, f cluster.Function) (result string, revision int64, err error) {
	old, revision, err := s.read(ctx, cluster.FunctionKey(tenant, name))
	if err != nil {
		return "", 0, err
	}
	sealing, lock, err := s.lockOf(ctx)
	if err != nil {
		return "", 0, err
	}
	if revision != 0 {
		was, problems := cluster.DecodeFunction(name, old)
		plain := lock != nil && len(was.Secrets) > 0
		if open, err := a.openFunction(sealing, tenant, name, was); err == nil {
			was = open
		}
		if cluster.Invalid(problems) == nil && unbuilt(was).Digest() == f.Digest() && was.Waits() == "" && !plain {
			return "unchanged", revision, nil
		}
	}
	if lock != nil {
		if f, err = lock.Function(tenant, name, f); err != nil {
			return "", 0, err
		}
	}
	data, err := json.Marshal(f)
	if err != nil {
		return "", 0, err
	}
	r, err := s.Put(ctx, cluster.FunctionKey(tenant, name), string(data))
	if err != nil {
		return "", 0, fmt.Errorf("cannot write function %s: %w", name, err)
	}
	return map[bool]string{true: "deployed", false: "replaced"}[revision == 0], r.Header.Revision, nil
}
