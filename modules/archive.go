package modules

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"bulkhead/cluster"
)

// ArchivesDir is where a builder keeps sets' archives, <sha256>.tar each, below
// its state directory.
func ArchivesDir(state string) string { return filepath.Join(state, "modules", "archives") }

// archive writes what is in dir as a set's archive into archives, and returns the
// set's name. Equal content has equal bytes: entries in a fixed order, of no time
// and of root, files of mode 0644 or 0755, and nothing but directories and files.
func archive(dir, archives string) (set string, size cluster.Bytes, err error) {
	all, err := entries(dir)
	if err != nil {
		return "", 0, err
	}
	root, err := os.OpenRoot(dir) // no link on the way leads outside
	if err != nil {
		return "", 0, fmt.Errorf("cannot write the archive: %w", err)
	}
	defer root.Close()
	f, err := os.CreateTemp(archives, ".set-*")
	if err != nil {
		return "", 0, fmt.Errorf("cannot write the archive: %w", err)
	}
	defer os.Remove(f.Name())
	hash := sha256.New()
	w := tar.NewWriter(io.MultiWriter(f, hash))
	for _, e := range all {
		if err = put(w, root, e); err != nil {
			break
		}
	}
	if err = errors.Join(err, w.Close(), f.Chmod(0o644), f.Sync()); err != nil {
		f.Close()
		return "", 0, fmt.Errorf("cannot write the archive: %w", err)
	}
	written, err := f.Seek(0, io.SeekCurrent)
	if err = errors.Join(err, f.Close()); err != nil {
		return "", 0, fmt.Errorf("cannot write the archive: %w", err)
	}
	set = hex.EncodeToString(hash.Sum(nil))
	return set, cluster.Bytes(written), os.Rename(f.Name(), filepath.Join(archives, set+".tar"))
}

func put(w *tar.Writer, root *os.Root, e entry) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: e.name, Size: e.size, Mode: 0o644, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
	if e.exec {
		h.Mode = 0o755
	}
	if e.dir {
		h.Typeflag, h.Name, h.Mode = tar.TypeDir, e.name+"/", 0o755
	}
	if err := w.WriteHeader(h); err != nil || e.dir {
		return err
	}
	f, err := root.Open(e.name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}
