package modules

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/client"

	"bulkhead/cluster"
)

// Maker makes sets.
type Maker struct {
	State     string         // the host's state directory: <state>/builder is its own, and ArchivesDir
	Docker    *client.Client // where install scripts run; nil: none can
	Toolchain string         // image with compilers; "": one is made when it is needed
	Tools     string         // directory for npm and Node, which BuilderUID can read; "": in State
}

// Prepare has npm and Node in place, which builds do by themselves when they are
// not.
func (m *Maker) Prepare(ctx context.Context) error {
	_, err := openTools(ctx, m.tools())
	return err
}

// sweep removes what a builder that was killed left of a build under way.
func (m *Maker) sweep(ctx context.Context) error {
	left, err := filepath.Glob(filepath.Join(m.State, "builder", "build-*"))
	for _, dir := range left {
		err = firstOf(err, os.RemoveAll(dir))
	}
	if m.Docker == nil {
		return err
	}
	containers, failed := m.Docker.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", scriptsLabel+"="+m.State))})
	for _, c := range containers {
		err = firstOf(err, m.Docker.ContainerRemove(ctx, c.ID, container.RemoveOptions{Force: true, RemoveVolumes: true}))
	}
	return firstOf(err, failed)
}

func (m *Maker) tools() string { return cmp.Or(m.Tools, filepath.Join(m.State, "builder", "tools")) }

// made is what came of a build.
type made struct {
	name string
	set  cluster.Set
}

// make builds what is wanted, as far as the list allows, and tells every step. Its
// error says in one sentence what to do; it wraps [ErrRefused] when the list has
// the say.
func (m *Maker) make(ctx context.Context, l List, want map[string]string, log io.Writer, step func(string)) (made, error) {
	dependencies, err := l.Narrow(want)
	if err != nil {
		return made{}, err
	}
	b, err := m.begin(ctx, dependencies, log)
	if err != nil {
		return made{}, err
	}
	defer os.RemoveAll(b.dir)
	step("resolving")
	if err := b.npm.run(ctx, "install", "--package-lock-only"); err != nil {
		return made{}, l.explain(want, err)
	}
	locked, err := b.locked()
	if err != nil {
		return made{}, err
	}
	if err := l.Check(want, locked); err != nil {
		return made{}, err
	}
	step(fmt.Sprintf("fetching %d packages", len(locked)))
	if err := b.npm.run(ctx, "ci"); err != nil {
		return made{}, err
	}
	if locked, err = b.installed(locked); err != nil {
		return made{}, err
	}
	dir := b.npm.dir
	if specs := scripted(locked); len(specs) > 0 {
		step(fmt.Sprintf("running the install scripts of %d packages", len(specs)))
		if dir, err = m.scripts(ctx, b, specs, log); err != nil {
			return made{}, err
		}
	}
	step("archiving")
	name, size, err := archive(dir, ArchivesDir(m.State))
	if err != nil {
		return made{}, err
	}
	set := cluster.Set{Want: want, Packages: locked, Size: size, Node: b.npm.version, Arch: runtime.GOARCH, Built: time.Now().UTC().Truncate(time.Second)}
	return made{name, set}, nil
}

// build is a build under way.
type build struct {
	dir string // of its own, removed when it ends
	npm npm
}

// begin makes the directories that a build needs, with a package.json.
func (m *Maker) begin(ctx context.Context, dependencies map[string]string, log io.Writer) (b build, err error) {
	own := filepath.Join(m.State, "builder")
	cache := filepath.Join(own, "cache")
	if err := firstOf(os.MkdirAll(ArchivesDir(m.State), 0o700), os.MkdirAll(cache, 0o700), os.Chmod(own, 0o711), giveAway(cache)); err != nil {
		return b, fmt.Errorf("cannot make the builder's directories: %w", err)
	}
	t, err := openTools(ctx, m.tools())
	if err != nil {
		return b, err
	}
	if b.dir, err = os.MkdirTemp(own, "build-*"); err != nil {
		return b, fmt.Errorf("cannot make the build's directory: %w", err)
	}
	b.npm = npm{tools: t, dir: filepath.Join(b.dir, "set"), cache: cache, log: log}
	data, err := json.Marshal(map[string]any{"name": "set", "private": true, "dependencies": dependencies})
	if err == nil {
		err = firstOf(os.Chmod(b.dir, 0o711), os.Mkdir(b.npm.dir, 0o755), b.file("set/package.json", data), giveAway(b.npm.dir))
	}
	if data, missing := os.ReadFile(userConfig()); err == nil && missing == nil {
		b.npm.user = filepath.Join(b.dir, "npmrc")
		err = b.file("npmrc", data)
	}
	if err != nil {
		os.RemoveAll(b.dir)
		return b, fmt.Errorf("cannot make the build's directory: %w", err)
	}
	return b, nil
}

// file writes a file that npm's user may read, and nobody else.
func (b build) file(name string, data []byte) error {
	p := filepath.Join(b.dir, name)
	return firstOf(os.WriteFile(p, data, 0o600), giveAway(p))
}

// giveAway makes a file or directory npm's user's.
func giveAway(path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return os.Lchown(path, BuilderUID, BuilderUID)
}

// firstOf is the first of some errors.
func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// locked is what npm resolved.
func (b build) locked() ([]cluster.Package, error) {
	data, err := os.ReadFile(filepath.Join(b.npm.dir, "package-lock.json"))
	if err != nil {
		return nil, fmt.Errorf("cannot read npm's lock: %w", err)
	}
	return packages(data, here)
}

// installed are those of the packages that were checked which npm has installed:
// optional ones may be missing, and nothing else may be there.
func (b build) installed(checked []cluster.Package) (there []cluster.Package, err error) {
	data, err := os.ReadFile(filepath.Join(b.npm.dir, "node_modules", ".package-lock.json"))
	if err != nil {
		return nil, fmt.Errorf("cannot read what npm installed: %w", err)
	}
	var l lock
	if err := json.Unmarshal(data, &l); err != nil {
		return nil, fmt.Errorf("cannot read what npm installed: %w", err)
	}
	for _, p := range checked {
		if got, ok := l.Packages[p.Path]; ok && got.Version == p.Version && got.Integrity == p.Integrity {
			there = append(there, p)
			delete(l.Packages, p.Path)
		}
	}
	for at := range l.Packages {
		return nil, fmt.Errorf("npm installed %s, which its lock does not have so: nothing of it is used", at)
	}
	return there, nil
}

// here is what sets are built for.
var here = platform{"linux", map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH], "glibc"}

// scripted are the packages with install scripts, as npm rebuild takes them: by
// the name of their directory.
func scripted(locked []cluster.Package) (specs []string) {
	seen := map[string]bool{}
	for _, p := range locked {
		_, name, _ := cutLast(p.Path, "node_modules/")
		if s := name + "@" + p.Version; p.Scripts && !seen[s] {
			seen[s] = true
			specs = append(specs, s)
		}
	}
	return specs
}

// scripts runs install scripts, and returns the directory with what they left.
func (m *Maker) scripts(ctx context.Context, b build, specs []string, log io.Writer) (string, error) {
	if m.Docker == nil {
		return "", fmt.Errorf("%s has install scripts, which run in a container, and the builder's host has no Docker", specs[0])
	}
	image := m.Toolchain
	if image == "" {
		var err error
		if image, err = toolchain(ctx, m.Docker, b.dir); err != nil {
			return "", err
		}
	}
	out := filepath.Join(b.dir, "built")
	if err := os.Mkdir(out, 0o755); err != nil {
		return "", fmt.Errorf("cannot make room for what install scripts leave: %w", err)
	}
	if err := runScripts(ctx, m.Docker, m.State, b.npm.tools, image, b.npm.dir, out, specs, log); err != nil {
		return "", err
	}
	data, err := os.ReadFile(filepath.Join(b.npm.dir, "package-lock.json"))
	if err != nil {
		return "", fmt.Errorf("cannot read npm's lock: %w", err)
	}
	return out, os.WriteFile(filepath.Join(out, "package-lock.json"), data, 0o644)
}
