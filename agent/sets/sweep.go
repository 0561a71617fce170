package sets

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	// keepUnused is how long a set stays that no function names: who went back to
	// an older version finds it. keepLeast is how long it stays although the disk
	// is wanted: processes of a version before may go on for so long.
	keepUnused = 24 * time.Hour
	keepLeast  = time.Hour
	// maxStore is how much of the disk may go to sets that nobody names.
	maxStore = 10 << 30
	// stale is how old what is being unpacked is when nobody can be at it.
	stale = time.Hour
)

// held is a set in the store.
type held struct {
	set  string
	used time.Time // when it was last known to be named
}

// surplus says which sets are to go; pure. Those that are named now stay.
func surplus(all []held, named map[string]bool, full bool, now time.Time) (out []string) {
	for _, h := range all {
		age := now.Sub(h.used)
		if !named[h.set] && (age > keepUnused || full && age > keepLeast) {
			out = append(out, h.set)
		}
	}
	return out
}

// Sweep notes which sets are named, removes those that have not been for long, and
// files that are in no set any more.
func (s *Store) Sweep(named map[string]bool, now time.Time) (removed []string, err error) {
	release, err := s.lock()
	if err != nil {
		return nil, err
	}
	defer release()
	all, err := s.held()
	for _, h := range all {
		if named[h.set] {
			err = errors.Join(err, os.Chtimes(s.recipe(h.set), now, now))
		}
	}
	size, scan := s.unused(nil)
	removed = surplus(all, named, size > maxStore, now)
	for _, set := range removed {
		err = errors.Join(err, s.remove(set))
	}
	_, clean := s.unused(os.Remove)
	return removed, errors.Join(err, scan, clean, s.clear(named, now))
}

func (s *Store) held() (all []held, err error) {
	recipes, err := os.ReadDir(filepath.Join(s.dir, "recipes"))
	for _, r := range recipes {
		info, gone := r.Info()
		set, is := strings.CutSuffix(r.Name(), ".gz")
		if gone == nil && is && setPattern.MatchString(set) {
			all = append(all, held{set, info.ModTime()})
		}
	}
	return all, err
}

// remove removes a set. Without its recipe it is none, whatever is left of it.
func (s *Store) remove(set string) error {
	if err := os.Remove(s.recipe(set)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(s.tree(set))
}

// unused has drop, if there is one, see every file that no set links to, and
// returns how many bytes all files have.
func (s *Store) unused(drop func(string) error) (size int64, err error) {
	err = filepath.WalkDir(filepath.Join(s.dir, "files"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		size += info.Size()
		if stat := info.Sys().(*syscall.Stat_t); drop != nil && stat.Nlink == 1 {
			return drop(path)
		}
		return nil
	})
	return size, err
}

// clear removes what an agent that was killed was unpacking, and trees without a
// recipe; not those of sets that are named: they are broken, and are replaced.
func (s *Store) clear(named map[string]bool, now time.Time) (err error) {
	fresh, read := os.ReadDir(filepath.Join(s.dir, "new"))
	for _, f := range fresh {
		if info, gone := f.Info(); gone == nil && now.Sub(info.ModTime()) > stale {
			err = errors.Join(err, os.RemoveAll(filepath.Join(s.dir, "new", f.Name())))
		}
	}
	all, list := s.held()
	names := map[string]bool{}
	for set := range named {
		names[s.Name(set)] = true
	}
	for _, h := range all {
		names[s.Name(h.set)] = true
	}
	trees, look := os.ReadDir(Trees(s.dir))
	for _, t := range trees {
		if !names[t.Name()] && list == nil {
			err = errors.Join(err, os.RemoveAll(filepath.Join(Trees(s.dir), t.Name())))
		}
	}
	return errors.Join(err, read, list, look)
}

// sweepEvery is how often a keeper sweeps.
const sweepEvery = 10 * time.Minute

// tidy looks through the store when it is first known what functions name, and
// then sweeps now and then. What is broken is fetched again.
func (k *Keeper) tidy(ctx context.Context, notify func()) {
	select {
	case <-k.told:
	case <-ctx.Done():
		return
	}
	k.verify(ctx, notify)
	for {
		removed, err := k.Store.Sweep(k.inUse(time.Now()), time.Now())
		if err != nil {
			k.Log.Error("cannot sweep the store of modules", "error", err)
		}
		if len(removed) > 0 {
			k.Log.Info("sets that no function names are removed", "sets", removed)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(sweepEvery):
		}
	}
}

// namedFor is how long a set counts as named after somebody said so: the agent
// says it whenever it looks at its host, every ten seconds at least.
const namedFor = 5 * time.Minute

func (k *Keeper) inUse(now time.Time) map[string]bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := map[string]bool{}
	for set, at := range k.named {
		if now.Sub(at) < namedFor {
			all[set] = true
		} else {
			delete(k.named, set)
		}
	}
	return all
}
