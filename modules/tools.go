package modules

import (
	"compress/gzip"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"bulkhead/images/node"
)

//go:embed package-lock.json
var ownLock []byte

// tools are what builds are made with, each in a directory that anybody can read.
type tools struct {
	node    string // bin/node, and include/node for native code
	npm     string // bin/npm-cli.js, with node-gyp
	version string // Node's
}

// fetching keeps two builders of one process from fetching into one directory.
var fetching sync.Mutex

// openTools has npm and Node in dir, from tarballs whose digests are pinned. The
// machine's own npm gets them, once.
func openTools(ctx context.Context, dir string) (tools, error) {
	fetching.Lock()
	defer fetching.Unlock()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return tools{}, fmt.Errorf("cannot make room for npm: %w", err)
	}
	t := tools{npm: filepath.Join(dir, "npm-"+ownPin().Version+".tree"), version: node.Version()}
	t.node = filepath.Join(dir, "node-"+t.version+".tree")
	err := ensure(t.node, func() (string, error) { return node.FetchTarball(ctx, dir) })
	if err != nil {
		return tools{}, err
	}
	return t, ensure(t.npm, func() (string, error) {
		return node.FetchPackage(ctx, dir, "npm", ownPin().Version, ownPin().Integrity)
	})
}

// ownPin is the npm that is used.
func ownPin() lockPackage {
	var l lock
	if err := json.Unmarshal(ownLock, &l); err != nil {
		panic("modules/package-lock.json: " + err.Error())
	}
	return l.Packages["node_modules/npm"]
}

// ensure unpacks a package into dir, if that is not there already.
func ensure(dir string, fetch func() (string, error)) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	tarball, err := fetch()
	if err != nil {
		return err
	}
	if err := unpackPackage(tarball, dir); err != nil {
		return fmt.Errorf("cannot unpack %s: %w", filepath.Base(tarball), err)
	}
	return nil
}

// unpackPackage unpacks a tarball as npm packs them.
func unpackPackage(tarball, dir string) error {
	f, err := os.Open(tarball)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	fresh, err := os.MkdirTemp(filepath.Dir(dir), ".unpack-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(fresh)
	if err := unpack(z, fresh); err != nil {
		return err
	}
	return os.Rename(filepath.Join(fresh, "package"), dir)
}
