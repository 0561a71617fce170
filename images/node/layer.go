package node

import (
	"archive/tar"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// file is one entry of a layer: a directory (mode has os.ModeDir), a symbolic
// link (link is set), or a file with its body here or in source.
type file struct {
	name   string // without a leading slash
	mode   fs.FileMode
	link   string
	body   []byte
	source string // path on this machine
}

// layer is a written layer.
type layer struct {
	path   string
	digest string // SHA-256 of the tar, hex
	size   int64
}

func (l layer) name() string { return l.digest + "/layer.tar" }

// writeLayer writes files, sorted and with their directories, to a temporary
// tar in dir.
func writeLayer(dir string, files []file) (layer, error) {
	f, err := os.CreateTemp(dir, ".layer-*")
	if err != nil {
		return layer{}, fmt.Errorf("cannot write a layer: %w", err)
	}
	defer f.Close()
	hash := sha256.New()
	w := tar.NewWriter(io.MultiWriter(f, hash))
	for _, e := range withDirectories(files) {
		if err := putFile(w, e); err != nil {
			os.Remove(f.Name())
			return layer{}, err
		}
	}
	if err := w.Close(); err != nil {
		os.Remove(f.Name())
		return layer{}, fmt.Errorf("cannot write a layer: %w", err)
	}
	size, err := f.Seek(0, io.SeekCurrent)
	return layer{f.Name(), hex.EncodeToString(hash.Sum(nil)), size}, err
}

// withDirectories adds the directories that files lie in and sorts.
func withDirectories(files []file) []file {
	all := map[string]file{}
	for _, f := range files {
		for d := path.Dir(f.name); d != "."; d = path.Dir(d) {
			if _, ok := all[d]; !ok {
				all[d] = file{name: d, mode: fs.ModeDir | 0o755}
			}
		}
		all[f.name] = f
	}
	out := make([]file, 0, len(all))
	for _, f := range all {
		out = append(out, f)
	}
	slices.SortFunc(out, func(a, b file) int { return cmp.Compare(a.name, b.name) })
	return out
}

// putFile writes one entry, owned by root and as old as time.
func putFile(w *tar.Writer, f file) error {
	h := &tar.Header{Name: f.name, Mode: int64(f.mode.Perm()), ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
	if f.mode&fs.ModeSticky != 0 {
		h.Mode |= 0o1000
	}
	var body io.Reader = bytes.NewReader(f.body)
	switch {
	case f.mode.IsDir():
		h.Typeflag, h.Name = tar.TypeDir, f.name+"/"
	case f.link != "":
		h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, f.link, 0o777
	case f.source != "":
		src, err := os.Open(f.source)
		if err != nil {
			return fmt.Errorf("cannot put %s into the image: %w", f.name, err)
		}
		defer src.Close()
		info, err := src.Stat()
		if err != nil {
			return fmt.Errorf("cannot put %s into the image: %w", f.name, err)
		}
		h.Typeflag, h.Size, body = tar.TypeReg, info.Size(), src
	default:
		h.Typeflag, h.Size = tar.TypeReg, int64(len(f.body))
	}
	if err := w.WriteHeader(h); err != nil {
		return fmt.Errorf("cannot put %s into the image: %w", f.name, err)
	}
	if _, err := io.Copy(w, body); err != nil {
		return fmt.Errorf("cannot put %s into the image: %w", f.name, err)
	}
	return nil
}

// baseFiles are those that change with Node and the machine's libraries.
func baseFiles(node string) ([]file, error) {
	files := []file{
		{name: nodePath, mode: 0o755, source: node},
		{name: "etc/passwd", mode: 0o644, body: []byte("root:x:0:0:root:/:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n")},
		{name: "etc/group", mode: 0o644, body: []byte("root:x:0:\nnogroup:x:65534:\n")},
		{name: "etc/nsswitch.conf", mode: 0o644, body: []byte("passwd: files\ngroup: files\nhosts: files dns\n")},
		{name: "etc/ssl/certs/ca-certificates.crt", mode: 0o644, source: "/etc/ssl/certs/ca-certificates.crt"},
	}
	libs, err := libraries(node)
	if err != nil {
		return nil, err
	}
	zones, err := zoneinfo("/usr/share/zoneinfo")
	if err != nil {
		return nil, err
	}
	return append(append(files, libs...), zones...), nil
}

// topFiles are ours, and the empty directories that a running container
// mounts things on.
func topFiles(cell string) ([]file, error) {
	files := []file{{name: cellPath, mode: 0o755, source: cell}}
	for name, mode := range map[string]fs.FileMode{"proc": 0o555, "sys": 0o555, "dev": 0o755, "run/cell": 0o755, "function": 0o755, "tmp": fs.ModeSticky | 0o777} {
		files = append(files, file{name: name, mode: fs.ModeDir | mode})
	}
	err := fs.WalkDir(harness, "harness", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := harness.ReadFile(p)
		files = append(files, file{name: path.Join(harnessPath, path.Base(p)), mode: 0o644, body: body})
		return err
	})
	return files, err
}

// zoneinfo is the time zone database at dir, without its two other copies
// (posix, right).
func zoneinfo(dir string) ([]file, error) {
	var files []file
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(p, "/")
		switch {
		case d.IsDir() && (d.Name() == "posix" || d.Name() == "right"):
			return filepath.SkipDir
		case d.Type()&fs.ModeSymlink != 0:
			to, err := os.Readlink(p)
			if err != nil || filepath.IsAbs(to) {
				return err
			}
			files = append(files, file{name: name, link: to})
		case d.Type().IsRegular():
			files = append(files, file{name: name, mode: 0o644, source: p})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read the time zones (Debian and Ubuntu: apt-get install tzdata): %w", err)
	}
	return files, nil
}
