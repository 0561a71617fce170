package cell

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestLimitsFor(t *testing.T) {
	for _, tc := range []struct {
		name      string
		memory    int64
		processes int
		heapMiB   int
	}{
		{"the default tenant holds two functions and a spare", 128 * mib, 3, 62},
		{"a small one still holds a function and a spare", 64 * mib, 2, 24},
		{"too small is treated as small", 1 * mib, 2, 24},
		{"no limit is treated as half a gigabyte", 0, 13, 318},
		{"a large one is capped in processes and heap", 64 << 30, 64, 4096},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := LimitsFor(tc.memory)
			if l.Processes != tc.processes || l.HeapMiB != tc.heapMiB {
				t.Errorf("got %d processes of %d MiB heap, want %d of %d", l.Processes, l.HeapMiB, tc.processes, tc.heapMiB)
			}
		})
	}
}

func TestCgroupMemory(t *testing.T) {
	for _, tc := range []struct {
		name, file, content string
		want                int64
	}{
		{"version 2", "memory.max", "134217728\n", 134217728},
		{"version 2 without a limit", "memory.max", "max\n", 0},
		{"version 1", "memory/memory.limit_in_bytes", "134217728\n", 134217728},
		{"version 1 without a limit", "memory/memory.limit_in_bytes", "9223372036854771712\n", 0},
		{"no cgroup at all", "other", "", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := t.TempDir()
			p := filepath.Join(root, tc.file)
			if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(p, []byte(tc.content), 0o600); err != nil {
				t.Fatal(err)
			}
			if got := CgroupMemory(root); got != tc.want {
				t.Errorf("got %d, want %d", got, tc.want)
			}
		})
	}
}

// Of the processes that answer, the one idle longest with nothing in flight
// goes; one that is stuck or busy never does.
func TestVictim(t *testing.T) {
	a, b, c := &process{number: 1}, &process{number: 2}, &process{number: 3}
	for _, tc := range []struct {
		name string
		all  []vitals
		want *process
	}{
		{"nobody", nil, nil},
		{"the idlest", []vitals{{a, true, 0, time.Second, 0, 0}, {b, true, 0, time.Minute, 0, 0}, {c, true, 0, 0, 0, 0}}, b},
		{"not the busy one", []vitals{{a, true, 1, time.Hour, 0, 0}, {b, true, 0, 0, 0, 0}}, b},
		{"not the silent one", []vitals{{a, false, 0, time.Hour, 0, 0}, {b, true, 0, 0, 0, 0}}, b},
		{"before any with raw streams", []vitals{{a, true, 1, 0, 1, time.Hour}, {b, true, 0, 0, 0, 0}}, b},
		{"else the one whose raw streams are the quietest", []vitals{{a, true, 1, 0, 1, time.Second}, {b, true, 2, 0, 2, time.Minute}}, b},
		{"but none with a plain request beside them", []vitals{{a, true, 1, 0, 1, 0}, {b, true, 3, 0, 2, time.Minute}}, a},
		{"none when all are busy", []vitals{{a, true, 2, 0, 0, 0}, {b, false, 0, 0, 0, 0}}, nil},
	} {
		if got := victim(tc.all); got != tc.want {
			t.Errorf("%s: got %+v, want %+v", tc.name, got, tc.want)
		}
	}
}

// Lines longer than a process may print are cut, not split.
func TestReadLines(t *testing.T) {
	in := "a\n\n" + strings.Repeat("b", 3*maxRaw) + "\nlast"
	var got []string
	readLines(strings.NewReader(in), func(b []byte) { got = append(got, string(b)) })
	if len(got) != 3 || got[0] != "a" || len(got[1]) != maxRaw || got[2] != "last" {
		t.Errorf("got %d lines, the second of %d bytes", len(got), len(got[1]))
	}
}
