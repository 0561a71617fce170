package cluster

import (
	"encoding/json"
	"os"
	"testing"
)

// The harness has the same table: images/node/test/modules.test.js.
func TestAliasesAreAsTheHarnessFindsThem(t *testing.T) {
	data, err := os.ReadFile("../images/node/test/aliases.json")
	if err != nil {
		t.Fatal(err)
	}
	var table map[string]string
	if err := json.Unmarshal(data, &table); err != nil || len(table) == 0 {
		t.Fatalf("the table has %d names: %v", len(table), err)
	}
	for name, want := range table {
		if got := ModuleAlias(name); got != want {
			t.Errorf("%s is in %s, want %s", name, got, want)
		}
	}
}
