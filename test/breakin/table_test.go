package breakin

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"

	"bulkhead/test/breakin/breach"
)

var update = flag.Bool("update", false, "write what happened to docs/ablation.md")

const document = "../../docs/ablation.md"

// ablate tries everything with all layers in force, without each of them, and
// without any, and holds the document's table of that name to what happened.
// What is no attack there is left out.
func (s *site) ablate(name string, layers []layer, try func(away [][]layer) []map[string]breach.Attempt, except ...string) {
	s.t.Helper()
	away := [][]layer{nil}
	for _, l := range layers {
		away = append(away, []layer{l})
	}
	got := try(append(away, layers))
	all, without, none := got[0], got[1:len(got)-1], got[len(got)-1]
	var b strings.Builder
	b.WriteString("| attack | all layers | one layer less | none |\n|---|---|---|---|\n")
	for _, attack := range breach.Names() {
		if slices.Contains(except, attack) {
			continue
		}
		if all[attack].Through {
			s.t.Errorf("with all layers in force, this gets through: %s: %s", attack, all[attack].Says)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", attack, says(all[attack]), others(all[attack], layers, without, attack), says(none[attack]))
	}
	s.compare(name, b.String())
}

// others says what else an attack meets where one layer is away; layers whose
// absence gives the same answer are told together.
func others(all breach.Attempt, layers []layer, without []map[string]breach.Attempt, attack string) string {
	var order []string
	by := map[string][]string{}
	for i, l := range layers {
		if got := without[i][attack]; got.Through || got.Says != all.Says {
			if by[says(got)] == nil {
				order = append(order, says(got))
			}
			by[says(got)] = append(by[says(got)], l.name)
		}
	}
	var cells []string
	for _, answer := range order {
		cells = append(cells, answer+" without "+strings.Join(by[answer], " or "))
	}
	if cells == nil {
		return "the same"
	}
	return strings.Join(cells, "; ")
}

func says(a breach.Attempt) string {
	if a.Through {
		return "**through**"
	}
	return a.Says
}

func names(layers []layer) string {
	var all []string
	for _, l := range layers {
		all = append(all, l.name)
	}
	return strings.Join(all, ", ")
}

// compare holds a table of the document to what happened, or writes it.
func (s *site) compare(name, table string) {
	s.t.Helper()
	text, err := os.ReadFile(document)
	if err != nil {
		s.t.Fatal(err)
	}
	begin, end := "<!-- "+name+" -->\n", "<!-- end of "+name+" -->\n"
	before, rest, ok := strings.Cut(string(text), begin)
	old, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		s.t.Fatalf("%s has no place for the table %q", document, name)
	}
	switch {
	case table == old:
	case *update && !s.t.Failed():
		if err := os.WriteFile(document, []byte(before+begin+table+end+after), 0o644); err != nil {
			s.t.Fatal(err)
		}
	default:
		s.t.Errorf("%s does not say what happens: run go test ./test/breakin -update, and read what it changes; now:\n%s", document, table)
	}
}
