package sets

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// rest is how long looking through files rests after each, for what it took: it
// takes a fifth of a core at most.
const rest = 4

// Verify reads every file of a set and says which one is not what it should be;
// nil: all are. Files that good says were read already, by their inode numbers,
// are not read again.
func (s *Store) Verify(ctx context.Context, set string, good map[uint64]bool) error {
	for p, err := range parts(s.recipe(set)) {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil && p.Sum != "" {
			err = s.verifyFile(ctx, filepath.Join(s.tree(set), p.Name), p, good)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// errBroken means that a file is not what it should be.
var errBroken = errors.New("is broken")

func (s *Store) verifyFile(ctx context.Context, path string, p part, good map[uint64]bool) error {
	begun := time.Now()
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s %w: it is gone", p.Name, errBroken)
	}
	if err != nil {
		return err
	}
	inode := info.Sys().(*syscall.Stat_t).Ino
	if good[inode] {
		return nil
	}
	sum, err := sumOf(path)
	if err != nil || sum != p.Sum {
		return errors.Join(fmt.Errorf("%s %w: its SHA-256 is %s, want %s", p.Name, errBroken, sum, p.Sum), err)
	}
	good[inode] = true
	select {
	case <-time.After(rest * time.Since(begun)):
	case <-ctx.Done():
	}
	return nil
}

func sumOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Condemn makes a broken set none, so that it is fetched again. Its tree stays
// until the new one is there: most of it still works. Files of it in the store that
// are broken go.
func (s *Store) Condemn(set string) error {
	release, err := s.lock()
	if err != nil {
		return err
	}
	defer release()
	for p, err := range parts(s.recipe(set)) {
		if err != nil {
			break // the recipe is what is broken
		}
		if p.Sum == "" {
			continue
		}
		file := s.file(p.Sum, p.Exec)
		if sum, err := sumOf(file); err == nil && sum == p.Sum {
			continue
		}
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return os.Remove(s.recipe(set))
}

// verify looks through all sets that are here, and has broken ones fetched again.
func (k *Keeper) verify(ctx context.Context, notify func()) {
	all, err := k.Store.held()
	if err != nil {
		k.Log.Error("cannot look through the store of modules", "error", err)
	}
	good := map[uint64]bool{}
	for _, h := range all {
		err := k.Store.Verify(ctx, h.set, good)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			continue
		}
		k.Log.Error("a set of modules is broken, and fetched again", "set", h.set, "error", err)
		if err := k.Store.Condemn(h.set); err != nil {
			k.Log.Error("a broken set of modules stays", "set", h.set, "error", err)
		}
		notify()
	}
}
