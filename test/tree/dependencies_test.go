package tree

import (
	"os"
	"strings"
	"testing"
)

func TestEveryDependencySaysWhyItIsThere(t *testing.T) {
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	why, err := os.ReadFile("../../docs/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	direct := 0
	for line := range strings.Lines(string(mod)) {
		module, version, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || !strings.HasPrefix(version, "v") || strings.Contains(line, "// indirect") {
			continue
		}
		direct++
		if !strings.Contains(string(why), module) {
			t.Errorf("docs/dependencies.md does not say why %s is there", module)
		}
	}
	if direct == 0 {
		t.Fatal("go.mod names no dependency")
	}
}
