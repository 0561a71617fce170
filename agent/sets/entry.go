package sets

import (
	"archive/tar"
	"fmt"
	"path"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of an archive.
const (
	maxBytes = 1 << 30 // of its files together
	maxTar   = 2 << 30 // of itself
	maxFiles = 200_000 // and directories
	maxName  = 1024    // bytes of a path
	maxPart  = 255     // bytes of a name in it
	maxDepth = 64      // names in it
)

// entry is a directory or a file in an archive.
type entry struct {
	name string // its path
	dir  bool
	exec bool
	size int64
}

// checkEntry reads a header, and refuses all that is no plain file or directory
// below node_modules, and no package-lock.json: links above all. A set needs
// none, and one that leads nowhere outside today may tomorrow.
func checkEntry(h *tar.Header) (entry, error) {
	e := entry{name: strings.TrimSuffix(h.Name, "/"), size: h.Size, exec: h.Mode&0o111 != 0}
	switch h.Typeflag {
	case tar.TypeReg:
	case tar.TypeDir:
		e.dir = true
	default:
		return e, fmt.Errorf("%.200q is of type %q: want files and directories only", h.Name, h.Typeflag)
	}
	if h.Mode&^0o777 != 0 {
		return e, fmt.Errorf("%.200q has mode %o: want no bits but those of who may read, write and execute", h.Name, h.Mode)
	}
	for record := range h.PAXRecords {
		if record != "path" {
			return e, fmt.Errorf("%.200q has the attribute %.50q: want none", h.Name, record)
		}
	}
	return e, checkName(e.name)
}

func checkName(name string) error {
	parts := strings.Split(name, "/")
	switch {
	case len(name) > maxName || len(parts) > maxDepth:
		return fmt.Errorf("the path %.200q… has %d bytes and %d names: want at most %d and %d", name, len(name), len(parts), maxName, maxDepth)
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("the path %.200q is not UTF-8, or has control characters", name)
	case path.Clean(name) != name || parts[0] != "node_modules" && name != "package-lock.json":
		return fmt.Errorf("the path %.200q is neither below node_modules nor package-lock.json", name)
	}
	for _, p := range parts {
		if len(p) > maxPart {
			return fmt.Errorf("the path %.200q has a name of %d bytes: want at most %d", name, len(p), maxPart)
		}
	}
	return nil
}
