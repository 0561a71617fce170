package sets

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"regexp"

	"golang.org/x/sys/unix"
)

var setPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Unpack puts a set into the store that is read from its archive. Nothing of it is
// seen before all was read and the digest is the set's name; one that is cut short
// leaves nothing behind. A set that is there already is not read.
func (s *Store) Unpack(ctx context.Context, set string, archive io.Reader) error {
	if !setPattern.MatchString(set) {
		return fmt.Errorf("cannot unpack set %.80q: want the SHA-256 of an archive, in hex", set)
	}
	if s.Has(set) {
		return nil
	}
	stage, err := os.MkdirTemp(filepath.Join(s.dir, "new"), set[:12]+"-")
	if err != nil {
		return fmt.Errorf("cannot unpack set %s: %w", set, err)
	}
	defer os.RemoveAll(stage)
	got, err := read(ctx, archive, stage)
	if err == nil && got != set {
		err = fmt.Errorf("what came is another archive, with the SHA-256 %s", got)
	}
	if err == nil {
		err = s.install(stage, set)
	}
	if err != nil {
		return fmt.Errorf("cannot unpack set %s: %w", set, err)
	}
	return nil
}

// read reads an archive: its files go to stage/files, by their digests, how they
// belong together to stage/recipe. It returns the archive's digest.
func read(ctx context.Context, archive io.Reader, stage string) (digest string, err error) {
	if err := os.Mkdir(filepath.Join(stage, "files"), 0o700); err != nil {
		return "", err
	}
	w, err := createRecipe(filepath.Join(stage, "recipe"))
	if err != nil {
		return "", err
	}
	whole := &recorder{from: io.LimitReader(archive, maxTar), hash: sha256.New(), on: true}
	err = readEntries(ctx, whole, stage, w)
	if err = errors.Join(err, w.close()); err != nil {
		return "", err
	}
	return hex.EncodeToString(whole.hash.Sum(nil)), nil
}

func readEntries(ctx context.Context, whole *recorder, stage string, w *recipeWriter) error {
	r := tar.NewReader(whole)
	for count, total := 0, int64(0); ; count++ {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return readEnd(whole, w)
		}
		if err != nil {
			return fmt.Errorf("cannot read the archive: %w", err)
		}
		e, err := checkEntry(h)
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if total += e.size; total > maxBytes || count >= maxFiles {
			return fmt.Errorf("it has more than %d MiB, or more than %d files", maxBytes>>20, maxFiles)
		}
		p := part{Raw: whole.take(), Name: e.name, Exec: e.exec, Size: e.size}
		if !e.dir {
			whole.on = false
			p.Sum, err = stageFile(r, stage, e)
			whole.on = true
		}
		if err = errors.Join(err, w.write(p)); err != nil {
			return err
		}
	}
}

// maxEnd bounds what follows an archive's end: tar fills up its last record.
const maxEnd = 1 << 20

func readEnd(whole *recorder, w *recipeWriter) error {
	n, err := io.Copy(io.Discard, io.LimitReader(whole, maxEnd+1))
	if err == nil && n > maxEnd {
		err = fmt.Errorf("something of more than %d bytes follows its end", maxEnd)
	}
	return errors.Join(err, w.write(part{Raw: whole.take()}))
}

// stageFile writes a file's contents to where their digest says.
func stageFile(r io.Reader, stage string, e entry) (sum string, err error) {
	name := filepath.Join(stage, "incoming")
	mode := os.FileMode(0o444)
	if e.exec {
		mode = 0o555
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(f, h), r)
	if err = errors.Join(err, f.Chmod(mode), f.Close()); err != nil {
		return "", err
	}
	sum = hex.EncodeToString(h.Sum(nil))
	return sum, os.Rename(name, staged(stage, part{Sum: sum, Exec: e.exec}))
}

func staged(stage string, p part) string {
	name := p.Sum
	if p.Exec {
		name += "x"
	}
	return filepath.Join(stage, "files", name)
}

// recorder hashes all that is read through it, and keeps it while it is on.
type recorder struct {
	from io.Reader
	hash hash.Hash
	on   bool
	raw  []byte
}

// Read implements [io.Reader].
func (r *recorder) Read(p []byte) (int, error) {
	n, err := r.from.Read(p)
	r.hash.Write(p[:n])
	if r.on {
		r.raw = append(r.raw, p[:n]...)
	}
	return n, err
}

func (r *recorder) take() []byte {
	raw := r.raw
	r.raw = nil
	return raw
}

// install makes what was read a set. What the store's own files, and the tree,
// lead to is on the disk before they do.
func (s *Store) install(stage, set string) error {
	if err := syncAll(stage); err != nil {
		return err
	}
	release, err := s.lock()
	if err != nil {
		return err
	}
	defer release()
	if s.Has(set) { // somebody else was faster
		return nil
	}
	tree := filepath.Join(stage, "tree")
	if err := s.plant(stage, tree); err != nil {
		return err
	}
	if err := syncAll(stage); err != nil {
		return err
	}
	if err := s.putAside(stage, set); err != nil {
		return err
	}
	for _, move := range [][2]string{{filepath.Join(stage, "recipe"), s.recipe(set)}, {tree, s.tree(set)}} {
		if err := os.Rename(move[0], move[1]); err != nil {
			return err
		}
		if err := syncDir(filepath.Dir(move[1])); err != nil {
			return err
		}
	}
	return nil
}

// putAside has what is left of a set that was broken go with the stage.
func (s *Store) putAside(stage, set string) error {
	err := os.Rename(s.tree(set), filepath.Join(stage, "broken"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// plant makes a set's tree.
func (s *Store) plant(stage, tree string) error {
	if err := os.Mkdir(tree, 0o700); err != nil {
		return err
	}
	for p, err := range parts(filepath.Join(stage, "recipe")) {
		switch {
		case err != nil:
		case p.Name == "":
		case p.Sum == "":
			err = makeDir(tree, p.Name)
		default:
			if err = makeDir(tree, filepath.Dir(p.Name)); err == nil {
				err = s.link(stage, p, filepath.Join(tree, p.Name))
			}
		}
		if err != nil {
			return err
		}
	}
	return os.Chmod(tree, 0o755)
}

// makeDir makes a directory of a tree, and those above it, whatever the umask.
func makeDir(tree, name string) error {
	if name == "." {
		return nil
	}
	path := filepath.Join(tree, name)
	if info, err := os.Lstat(path); err == nil && info.IsDir() {
		return nil
	}
	if err := makeDir(tree, filepath.Dir(name)); err != nil {
		return err
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	return os.Chmod(path, 0o755)
}

// link puts a staged file into the store, unless there is its like, and links that
// to where the set has it.
func (s *Store) link(stage string, p part, to string) error {
	file := s.file(p.Sum, p.Exec)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	if info, err := os.Lstat(file); err == nil && info.Size() != p.Size {
		if err := os.Remove(file); err != nil { // broken
			return err
		}
	}
	if err := os.Link(staged(stage, p), file); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	err := os.Link(file, to)
	if !errors.Is(err, unix.EMLINK) {
		return err
	}
	// The file system allows no more links to one file (ext4: 65000): begin another.
	fresh := filepath.Join(stage, "fresh")
	if err := copyFile(file, fresh); err != nil {
		return err
	}
	if err := os.Rename(fresh, file); err != nil {
		return err
	}
	return os.Link(file, to)
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Chmod(info.Mode()), out.Close())
}
