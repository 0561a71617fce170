package supervisor

import (
	"os"
	"path/filepath"
	"testing"

	"bulkhead/internal/kept"
)

func TestUnitLeftHalfWrittenIsNoUnit(t *testing.T) {
	s, err := openStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.write("a.service", "[Service]\n"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.units, kept.HalfWritten+"123"), []byte("[Serv"), 0o600); err != nil {
		t.Fatal(err)
	}
	texts, err := s.texts()
	if err != nil || len(texts) != 1 || texts["a.service"] != "[Service]\n" {
		t.Fatalf("got %q, %v", texts, err)
	}
}
