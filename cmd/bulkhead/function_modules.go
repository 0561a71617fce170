package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/cluster"
	"bulkhead/modules"
)

// want gathers the npm packages that a function wants. What is said nearer to this
// deployment comes first: flags, metadata, then the package.json beside the file;
// exact versions that the code requires are had besides.
func (d deployment) want(code string, meta map[string]string) (map[string]string, error) {
	all, err := d.packageJSON()
	if err != nil {
		return nil, err
	}
	inMeta, err := modules.InMeta(meta)
	if err != nil {
		return nil, fail(exitInvalid, "nothing was written", "%w", err)
	}
	flags, err := modules.InSpecs(d.modules)
	if err != nil {
		return nil, usageError(err)
	}
	all = modules.Wants(all, inMeta)
	all = modules.Wants(all, flags)
	all = modules.Wants(all, modules.InCode(code))
	if len(all) == 0 {
		return nil, nil
	}
	return all, nil
}

func (d deployment) packageJSON() (map[string]string, error) {
	if d.file == "-" || !d.readPackage {
		return nil, nil
	}
	file := filepath.Join(filepath.Dir(d.file), "package.json")
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		var found map[string]string
		if found, err = modules.InPackageJSON(data); err == nil {
			return found, nil
		}
	}
	return nil, fail(exitInvalid, "mend it, or deploy with --package-json=false", "%s: %w", file, err)
}

// built waits until a function that was written at a revision has the set that it
// wants, and returns the revision at which it has.
func (a *app) built(ctx context.Context, s store, d deployment, want map[string]string, revision int64) (int64, error) {
	if len(want) == 0 || d.noWait {
		return revision, nil
	}
	key, build := cluster.FunctionKey(d.tenant, d.name), cluster.BuildKey(cluster.WantID(want))
	said, failed := "", error(nil)
	if r, err := s.Get(ctx, cluster.BuilderElection+"/", clientv3.WithPrefix(), clientv3.WithCountOnly()); err == nil && r.Count == 0 {
		a.note("no builder runs: is there one (bulkhead builder)? waiting for its modules all the same")
	}
	_, ok := s.wait(ctx, d.buildTimeout, func(v *view) bool {
		e, there := v.keys[key]
		if f, _ := cluster.DecodeFunction(d.name, e.Value); there && e.Revision >= revision && f.Modules != nil && f.Modules.Set != "" {
			revision = e.Revision
			return true
		}
		b, _ := get[cluster.Build](v, build)
		if words := strings.TrimSpace(b.State + " " + buildStep(b)); words != said {
			said = words
			a.note("  modules: %s", words)
		}
		if b.State == cluster.BuildFailed && b.Seen >= revision { // else it failed before this deployment, and is tried again
			failed = fail(exitLate, "bulkhead modules builds "+cluster.WantID(want)[:8]+" has its log; the function's last version goes on, if it has one",
				"function %s is written, but its modules can't be had: %s", d.name, b.Error)
		}
		return failed != nil
	}, key, build)
	if !ok {
		return 0, fail(exitLate, "bulkhead modules builds shows how far it is", "function %s is written, but its modules are not built within %s", d.name, d.buildTimeout)
	}
	return revision, failed
}

// unbuilt is a function as it was deployed, before it got its set.
func unbuilt(f cluster.Function) cluster.Function {
	if f.Modules != nil {
		f.Modules = &cluster.FunctionModules{Want: f.Modules.Want}
		if len(f.Modules.Want) == 0 {
			f.Modules = nil
		}
	}
	return f
}

// defaultBuildTimeout is as long as the builder gives itself, and then some.
const defaultBuildTimeout = 20 * time.Minute
