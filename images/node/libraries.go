package node

import (
	"debug/elf"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Where Debian's and Ubuntu's loader looks when nothing tells it otherwise; in
// the image the libraries lie in the first.
var libraryDirs = []string{"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64"}

// addonLibraries are parts of the C library that Node itself does without, and
// packages with native code that comes built need: those that every such package
// may count on (PEP 600, manylinux, which Node's have in common with Python's).
var addonLibraries = []string{"librt.so.1", "libutil.so.1", "libresolv.so.2"}

// libraries finds what binary needs to run: its loader and, by DT_NEEDED and
// from there on, its shared libraries; and the [addonLibraries].
func libraries(binary string) ([]file, error) {
	loader, err := interpreter(binary)
	if err != nil {
		return nil, err
	}
	files := []file{{name: strings.TrimPrefix(loader, "/"), mode: 0o755, source: loader}}
	found := map[string]bool{path.Base(loader): true}
	needed := slices.Clone(addonLibraries)
	for queue := []string{binary}; len(queue) > 0; queue = queue[1:] {
		more, err := neededBy(queue[0])
		if err != nil {
			return nil, err
		}
		for _, name := range append(needed, more...) {
			if found[name] {
				continue
			}
			found[name] = true
			source, err := findLibrary(name)
			if err != nil {
				return nil, err
			}
			files = append(files, file{name: strings.TrimPrefix(path.Join(libraryDirs[0], name), "/"), mode: 0o644, source: source})
			queue = append(queue, source)
		}
		needed = nil
	}
	return files, nil
}

// interpreter is the loader that the binary names (PT_INTERP, elf(5)).
func interpreter(binary string) (string, error) {
	f, err := elf.Open(binary)
	if err != nil {
		return "", fmt.Errorf("cannot read %s: %w", binary, err)
	}
	defer f.Close()
	i := slices.IndexFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
	if i < 0 {
		return "", fmt.Errorf("cannot read %s: it names no loader", binary)
	}
	b := make([]byte, f.Progs[i].Filesz)
	if _, err := f.Progs[i].ReadAt(b, 0); err != nil {
		return "", fmt.Errorf("cannot read the loader's name in %s: %w", binary, err)
	}
	return strings.TrimRight(string(b), "\x00"), nil
}

func neededBy(binary string) ([]string, error) {
	f, err := elf.Open(binary)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", binary, err)
	}
	defer f.Close()
	needed, err := f.ImportedLibraries()
	if err != nil {
		return nil, fmt.Errorf("cannot read what %s needs: %w", binary, err)
	}
	return needed, nil
}

// findLibrary returns the real file behind a library's name.
func findLibrary(name string) (string, error) {
	for _, dir := range libraryDirs {
		p := filepath.Join(dir, name)
		if _, err := os.Stat(p); err == nil {
			return filepath.EvalSymlinks(p)
		}
	}
	hint := ""
	if strings.HasPrefix(name, "libatomic") {
		hint = " (Debian and Ubuntu: apt-get install libatomic1)"
	}
	return "", fmt.Errorf("cannot find the library %s that Node needs in %s%s", name, strings.Join(libraryDirs, ", "), hint)
}
