package main

import (
	"cmp"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// say prints a paragraph.
func say(format string, args ...any) { fmt.Printf(format+"\n", args...) }

// table is a Markdown table that is printed row by row.
type table struct{ columns int }

func newTable(title string, columns ...string) table {
	say("\n### %s\n\n| %s |\n|%s", title, strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
	return table{len(columns)}
}

func (t table) row(cells ...string) {
	if len(cells) != t.columns {
		panic(fmt.Sprintf("a row of %d cells in a table of %d columns", len(cells), t.columns))
	}
	say("| %s |", strings.Join(cells, " | "))
}

// quantile is of values in any order; q is from 0 to 1.
func quantile[T cmp.Ordered](vs []T, q float64) T {
	vs = slices.Sorted(slices.Values(vs))
	return vs[min(int(q*float64(len(vs))), len(vs)-1)]
}

func median[T cmp.Ordered](vs []T) T { return quantile(vs, 0.5) }

// each takes one figure of each result.
func each[T, V any](rs []T, of func(T) V) []V {
	vs := make([]V, len(rs))
	for i, r := range rs {
		vs[i] = of(r)
	}
	return vs
}

// spread is a median with the least and the most.
func spread[T cmp.Ordered](vs []T, text func(T) string) string {
	return fmt.Sprintf("%s (%s–%s)", text(median(vs)), text(slices.Min(vs)), text(slices.Max(vs)))
}

func ratio(v float64) string { return fmt.Sprintf("%.2f", v) }
func whole(v float64) string { return fmt.Sprintf("%.0f", v) }

func micros(us float64) string {
	return time.Duration(us * float64(time.Microsecond)).Round(time.Microsecond).String()
}

func ms(d time.Duration) string {
	v := float64(d) / float64(time.Millisecond)
	if v >= 100 {
		return fmt.Sprintf("%.0f ms", v)
	}
	return fmt.Sprintf("%.1f ms", v)
}

// mib is for KiB, as /proc counts.
func mib(kib int) string { return fmt.Sprintf("%.1f MiB", float64(kib)/1024) }

// machine says what all this is measured on.
func machine() string {
	model := "an unknown processor"
	if data, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, after, ok := strings.Cut(string(data), "model name"); ok {
			line, _, _ := strings.Cut(after, "\n")
			model = strings.TrimSpace(strings.TrimLeft(line, "\t :"))
		}
	}
	load := "unknown"
	if data, err := os.ReadFile("/proc/loadavg"); err == nil {
		load, _, _ = strings.Cut(string(data), " ")
	}
	return fmt.Sprintf("%d cores of %s, load %s before", runtime.NumCPU(), model, load)
}
