package sets

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestWhichSetsGo(t *testing.T) {
	now := time.Now()
	all := []held{{"named", now.Add(-100 * keepUnused)}, {"fresh", now.Add(-time.Minute)}, {"hours", now.Add(-2 * keepLeast)}, {"old", now.Add(-2 * keepUnused)}}
	for _, c := range []struct {
		full bool
		want []string
	}{{false, []string{"old"}}, {true, []string{"hours", "old"}}} {
		if got := surplus(all, map[string]bool{"named": true}, c.full, now); !slices.Equal(got, c.want) {
			t.Errorf("full %v: %v go, want %v", c.full, got, c.want)
		}
	}
}

func TestSweepingLeavesWhatIsNamedAndWhatItShares(t *testing.T) {
	s, now := open(t), time.Now()
	kept, data := archive(t, sample...)
	unpack(t, s, kept, data)
	gone, data := archive(t, sample[1], thing{name: "node_modules/c/index.js", text: "only here"})
	unpack(t, s, gone, data)
	litter := filepath.Join(s.dir, "new", "litter")
	if err := errors.Join(os.Mkdir(litter, 0o700), os.Chtimes(litter, now, now.Add(-2*stale))); err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{kept: true}
	if removed, err := s.Sweep(named, now); err != nil || len(removed) > 0 || !s.Has(gone) {
		t.Fatalf("at once %v go: %v", removed, err)
	}
	later := now.Add(2 * keepUnused)
	if removed, err := s.Sweep(named, later); err != nil || !slices.Equal(removed, []string{gone}) || s.Has(gone) {
		t.Fatalf("later %v go: %v", removed, err)
	}
	if _, err := os.Lstat(s.file(digest([]byte("only here")), false)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file of no set stays: %v", err)
	}
	if _, err := os.Lstat(litter); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what nobody unpacks any more stays: %v", err)
	}
	if err := s.Verify(t.Context(), kept, map[uint64]bool{}); err != nil {
		t.Error(err)
	}
	// It was named later, so its time begins then.
	if removed, err := s.Sweep(nil, later.Add(keepUnused/2)); err != nil || len(removed) > 0 {
		t.Errorf("too early %v go: %v", removed, err)
	}
	if removed, err := s.Sweep(nil, later.Add(2*keepUnused)); err != nil || len(removed) != 1 {
		t.Errorf("in the end %v go: %v", removed, err)
	}
	for _, dir := range []string{"files/*/*", "sets/*", "recipes/*"} {
		if left, _ := filepath.Glob(filepath.Join(s.dir, dir)); len(left) > 0 {
			t.Errorf("%v stay", left)
		}
	}
}

func TestABrokenFileIsFoundAndReplacedInAllSets(t *testing.T) {
	s := open(t)
	one, first := archive(t, sample...)
	two, second := archive(t, append(sample[:len(sample):len(sample)], thing{name: "node_modules/z.js", text: "z"})...)
	unpack(t, s, one, first)
	unpack(t, s, two, second)
	file := s.file(digest([]byte("far down")), false)
	if err := os.WriteFile(file, []byte("FAR DOWN"), 0); err != nil { // the inode of both
		t.Fatal(err)
	}
	good := map[uint64]bool{}
	named := map[string]bool{one: true, two: true}
	for set, data := range map[string][]byte{one: first, two: second} {
		err := s.Verify(t.Context(), set, good)
		if !errors.Is(err, errBroken) || !strings.Contains(err.Error(), "/x.js is broken") {
			t.Fatalf("got %v", err)
		}
		if err := s.Condemn(set); err != nil || s.Has(set) {
			t.Fatalf("it is still taken for good: %v", err)
		}
		if _, err := s.Sweep(named, time.Now()); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(s.tree(set), "node_modules/b/index.js")); err != nil {
			t.Errorf("what still works is gone before its time: %v", err)
		}
		unpack(t, s, set, data)
	}
	for set := range named {
		if err := s.Verify(t.Context(), set, map[uint64]bool{}); err != nil {
			t.Error(err)
		}
	}
}
