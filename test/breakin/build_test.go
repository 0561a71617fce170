package breakin

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"bulkhead/cluster"
)

// The hole is in no build but those that ask for it by name: neither its
// symbols, nor the word that its orders come by. A build that has it shows that
// both would be found.
func TestOrdinaryBuildsHaveNoHole(t *testing.T) {
	for _, name := range cluster.Binaries {
		if has := hole(t, build(t, "./cmd/"+name)); has != "" {
			t.Errorf("%s, as it is built for hosts, has %s", name, has)
		}
	}
	if hole(t, build(t, "./cmd/bulkhead-runner", "breach")) == "" {
		t.Error("a runner that is built with the hole does not show it")
	}
}

// hole returns what a binary has of one.
func hole(t *testing.T, binary string) string {
	t.Helper()
	symbols, err := exec.Command("go", "tool", "nm", binary).Output()
	if err != nil {
		t.Fatalf("cannot read the symbols of %s: %v", binary, err)
	}
	for line := range strings.Lines(string(symbols)) {
		if strings.Contains(line, "bulkhead/test/") {
			return "the symbol " + strings.TrimSpace(line)
		}
	}
	data, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), "bulkhead/test/breakin") {
		return "the name of its package"
	}
	return ""
}
