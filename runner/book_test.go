package runner

import (
	"os"
	"path/filepath"
	"testing"
)

func TestWhatWasUsedIsReadAgain(t *testing.T) {
	file, err := os.OpenFile(filepath.Join(t.TempDir(), "used"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	b := &book{file}
	before := counts{own: map[string]*count{}}
	for range 3 {
		before.tenant.used.one(now)
	}
	before.get("q:a", 0, now).used.one(now)
	before.get("q:idle", 0, now)
	for range 2 { // the second is shorter than the first
		if err := b.write(before.entries(now)); err != nil {
			t.Fatal(err)
		}
		file.WriteAt([]byte("what an end in between leaves"), 500)
	}
	kept, err := b.read()
	if err != nil {
		t.Fatal(err)
	}
	after := counts{own: map[string]*count{}}
	after.restore(kept, now)
	if got := after.tenant.used.in(perMonth, now); got != 3 {
		t.Errorf("the tenant has used %d, want 3", got)
	}
	if got := after.own["q:a"].used.in(perMonth, now); got != 1 || len(after.own) != 1 {
		t.Errorf("the token has used %d, want 1, of %v", got, after.own)
	}
	if left := after.entries(now.AddDate(0, 2, 0)); len(left) != 0 {
		t.Errorf("two months later %v is kept", left)
	}
}

func TestEmptyBookIsNoErrorAndGarbageIs(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "used"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if kept, err := (&book{file}).read(); err != nil || len(kept) != 0 {
		t.Errorf("an empty one is %v, %v", kept, err)
	}
	file.WriteAt([]byte("garbage"), 0)
	if _, err := (&book{file}).read(); err == nil {
		t.Error("garbage is read")
	}
}
