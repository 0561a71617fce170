package main

import "testing"

func TestLinesOfTenantsDoNotDriveTheTerminal(t *testing.T) {
	for line, want := range map[string]string{
		"plain, with a\ttab and ümläuts":    "plain, with a\ttab and ümläuts",
		"\x1b]0;title\a":                    `\x1b]0;title\a`,
		"one\n15:00:00.000 other info lies": `one\n15:00:00.000 other info lies`,
		"left\u202eright":                   `left\u202eright`,
	} {
		if got := printable(line); got != want {
			t.Errorf("%q: got %q, want %q", line, got, want)
		}
	}
}
