package modules

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"bulkhead/cluster"
)

// Bounds of a set.
const (
	MaxSet   = cluster.GiB // of its files
	maxFiles = 200_000
)

// errLarge is what to do about a set that is too large.
var errLarge = fmt.Errorf("a set may have %d files and %s: want fewer packages", maxFiles, MaxSet)

// entry is a directory or a file of a set.
type entry struct {
	name string // with slashes
	size int64
	dir  bool
	exec bool
}

// entries lists what is in a set, of what npm and install scripts left in dir:
// node_modules and package-lock.json, parents before children, else by name.
// Links are left out, wherever they point, and what only building needs.
func entries(dir string) (all []entry, err error) {
	total := int64(0)
	for _, top := range []string{"node_modules", "package-lock.json"} {
		err := filepath.WalkDir(filepath.Join(dir, top), func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			name, err := filepath.Rel(dir, p)
			if err != nil {
				return err
			}
			if unneeded(name) {
				if d.IsDir() {
					return fs.SkipDir
				}
				return nil
			}
			if !d.IsDir() && !d.Type().IsRegular() {
				return nil
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			if !utf8.ValidString(name) || len(name) > 1024 {
				return fmt.Errorf("the name %.80q can't be in a set", name)
			}
			e := entry{name: name, dir: d.IsDir(), exec: info.Mode()&0o111 != 0}
			if !e.dir {
				e.size = info.Size()
			}
			if total += e.size; total > int64(MaxSet) || len(all) >= maxFiles {
				return errLarge
			}
			all = append(all, e)
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("cannot read what was installed: %w", err)
		}
	}
	return all, nil
}

// unneeded are files that nothing requires: npm's own beside packages, and what
// node-gyp leaves on its way to a .node file.
func unneeded(name string) bool {
	if path.Base(path.Dir(name)) == "node_modules" && strings.HasPrefix(path.Base(name), ".") {
		return true
	}
	parent := path.Base(path.Dir(name)) + "/" + path.Base(name)
	switch parent {
	case "Release/obj.target", "Release/obj", "Release/.deps", "build/node_gyp_bins":
		return true
	}
	return false
}

// unpack writes the directories and files of a tar below dir, and nothing
// outside of it, whatever the tar says. Links and all else are left out.
func unpack(from io.Reader, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	left, files := int64(MaxSet), 0
	for r := tar.NewReader(from); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		name := path.Clean(h.Name)
		if files++; h.Size > left || files > maxFiles {
			return errLarge
		}
		switch h.Typeflag {
		case tar.TypeDir:
			err = root.MkdirAll(name, 0o755)
		case tar.TypeReg:
			left -= h.Size
			err = writeFile(root, name, h.Mode&0o111 != 0, r)
		}
		if err != nil {
			return err
		}
	}
}

func writeFile(root *os.Root, name string, exec bool, r io.Reader) error {
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	mode := fs.FileMode(0o644)
	if exec {
		mode = 0o755
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}
