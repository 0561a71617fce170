package allot

import (
	"os"
	"path/filepath"
	"testing"
)

func TestNumbersAreKeptAndNeverShared(t *testing.T) {
	path := filepath.Join(t.TempDir(), "numbers.json")
	n, err := Open(path, 10, 11)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := n.Of("a")
	b, _ := n.Of("b")
	if a != 10 || b != 11 {
		t.Errorf("got %d and %d", a, b)
	}
	if c, err := n.Of("c"); err == nil {
		t.Errorf("a third of two numbers: %d", c)
	}
	if n, err = Open(path, 10, 11); err != nil {
		t.Fatal(err)
	}
	if again, _ := n.Of("b"); again != b {
		t.Errorf("%d became %d", b, again)
	}
	if err := n.FreeAll(func(name string) bool { return name == "a" }); err != nil {
		t.Fatal(err)
	}
	if c, _ := n.Of("c"); c != a {
		t.Errorf("a freed number is not allotted again: got %d, want %d", c, a)
	}
}

func TestUnreadableFileIsAnErrorAndNoFreshStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "numbers.json")
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, 1, 2); err == nil {
		t.Error("it was taken for empty")
	}
}
