package attack

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
)

var update = flag.Bool("update", false, "write what happened to docs/attacks.md")

const document = "../../docs/attacks.md"

// row is a line of a table: what was tried, and what came back.
type row struct{ attack, happens string }

// try sends an attack and, unless it stands alone, the neighbour's request that
// is behind it in raw.
func (s *site) try(t *testing.T, attack, raw, want string, alone bool) row {
	t.Helper()
	all := s.exchange(t, raw, alone)
	for _, a := range all {
		if a.header.Get("X-Smuggled") != "" {
			t.Errorf("an answer has a header that only a splitter could have set: %v", a.header)
		}
	}
	got := outcome(all, !alone)
	if got != want {
		t.Errorf("%s: got %q, want %q", attack, got, want)
	}
	s.unharmed(t)
	s.smuggled.check(t)
	return row{attack, got}
}

var writing sync.Mutex

// compare holds a table of the document to what happened, or writes it.
func compare(t *testing.T, name string, rows []row) {
	t.Helper()
	writing.Lock()
	defer writing.Unlock()
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := fmt.Sprintf("<!-- %s -->\n", name), fmt.Sprintf("<!-- end of %s -->\n", name)
	before, rest, ok := strings.Cut(string(text), begin)
	old, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no place for the table %q", document, name)
	}
	var b strings.Builder
	b.WriteString("| attack | what happens |\n|---|---|\n")
	for _, r := range rows {
		fmt.Fprintf(&b, "| %s | %s |\n", strings.ReplaceAll(r.attack, "|", "\\|"), r.happens)
	}
	switch {
	case b.String() == old:
	case *update && !t.Failed():
		if err := os.WriteFile(document, []byte(before+begin+b.String()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s does not say what happens: run go test ./test/attack -update, and read what it changes", document)
	}
}
