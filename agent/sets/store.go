package sets

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"bulkhead/internal/kept"
)

// Store is a host's store. Several goroutines, and an agent that is being
// replaced beside its successor, may use it at once.
type Store struct {
	dir    string
	secret []byte
}

// Dir is where the store of a host with this state directory is.
func Dir(state string) string { return filepath.Join(state, "modules") }

// Trees is the directory with the sets of a store: what cells see as /modules. It
// is never replaced: containers that run have it mounted.
func Trees(dir string) string { return filepath.Join(dir, "sets") }

// secretSize is the length of a store's secret in bytes.
const secretSize = 32

// Open opens the store in dir, and makes it if it isn't there.
func Open(dir string) (*Store, error) {
	for _, d := range []struct {
		path string
		mode os.FileMode
	}{
		{dir, 0o711}, {filepath.Join(dir, "files"), 0o700}, {Trees(dir), 0o711},
		{filepath.Join(dir, "recipes"), 0o700}, {filepath.Join(dir, "new"), 0o700},
	} {
		err := os.MkdirAll(d.path, d.mode)
		if err == nil {
			err = os.Chmod(d.path, d.mode)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot open the store of modules: %w", err)
		}
	}
	secret, err := openSecret(filepath.Join(dir, "secret"))
	if err != nil {
		return nil, fmt.Errorf("cannot open the store of modules: %w", err)
	}
	return &Store{dir: dir, secret: secret}, nil
}

// openSecret reads the secret, or makes it.
func openSecret(path string) ([]byte, error) {
	secret, err := os.ReadFile(path)
	switch {
	case err == nil && len(secret) != secretSize:
		return nil, fmt.Errorf("%s has %d bytes, want %d: without it, another is made and every set is unpacked anew", path, len(secret), secretSize)
	case !errors.Is(err, fs.ErrNotExist):
		return secret, err
	}
	secret = make([]byte, secretSize)
	rand.Read(secret) // never fails
	if err := kept.Write(path, secret, 0o600); err != nil {
		return nil, err
	}
	return secret, syncDir(filepath.Dir(path))
}

// nameDigits are the hexadecimal digits of a set's name: 128 bits.
const nameDigits = 32

// Name is what a set is called on this host.
func (s *Store) Name(set string) string {
	mac := hmac.New(sha256.New, s.secret)
	mac.Write([]byte(set))
	return hex.EncodeToString(mac.Sum(nil))[:nameDigits]
}

// Has says whether a set is there, whole.
func (s *Store) Has(set string) bool {
	_, err := os.Lstat(s.recipe(set))
	if err == nil {
		_, err = os.Lstat(s.tree(set))
	}
	return err == nil
}

func (s *Store) tree(set string) string   { return filepath.Join(Trees(s.dir), s.Name(set)) }
func (s *Store) recipe(set string) string { return filepath.Join(s.dir, "recipes", set+".gz") }

// Archive is where an archive is that somebody else has put on this host.
func (s *Store) Archive(set string) string { return filepath.Join(s.dir, "archives", set+".tar") }

// file is where a file with these contents is kept.
func (s *Store) file(sum string, exec bool) string {
	name := sum
	if exec {
		name += "x"
	}
	return filepath.Join(s.dir, "files", sum[:2], name)
}

// lock keeps others from linking and removing files; release ends that.
func (s *Store) lock() (release func(), err error) {
	f, err := os.Open(filepath.Join(s.dir, "files"))
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// syncDir has the names in a directory outlive a crash of the machine.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// syncAll has all that was written to a directory's file system outlive a crash
// of the machine: cheaper than file by file where there are thousands.
func syncAll(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(d.Fd())), d.Close())
}
