package main

import (
	"fmt"
	"time"
)

// figures are what the sections found that there is a goal for, by the goal's
// name.
var figures = map[string]float64{}

// goal is a bound that we have set ourselves.
type goal struct {
	name  string
	bound float64
	least bool // the figure is to be at least bound; else at most
	text  func(float64) string
}

var (
	share = func(v float64) string { return ratio(v) + " of bare" }
	milli = func(v float64) string { return ms(time.Duration(v * float64(time.Millisecond))) }
	count = func(v float64) string { return fmt.Sprintf("%.0f", v) }
	size  = func(v float64) string { return mib(int(v)) }
)

var goals = []goal{
	{"warm, `(ctx, cb)`, 16 connections", 0.8, true, share},
	{"warm, `(ctx, cb)`, 64 connections", 0.8, true, share},
	{"warm, `fetch`, 16 connections", 0.8, true, share},
	{"warm, `fetch`, 64 connections", 0.8, true, share},
	{"warm, `(ctx, req, res)`, 16 connections", 0.7, true, share},
	{"warm, `(ctx, req, res)`, 64 connections", 0.7, true, share},
	{"warm, `(ctx, cb)`, 1 connection, p50 above bare", 120, false, micros},
	{"first request to a dormant instance, p50", 40, false, milli},
	{"first request to a dormant instance, p99", 100, false, milli},
	{"a new version, from its put to its first answer, p50", 20, false, milli},
	{"a new tenant, from its put to its first 200, p50", 500, false, milli},
	{"a loop that can be interrupted, answered after the limit, p50", 250, false, milli},
	{"a loop that can be interrupted, answered after the limit, p95", 250, false, milli},
	{"code that nothing interrupts, answered after the limit, p50", 250, false, milli},
	{"done at 5 times what can be done", 0.9, true, func(v float64) string { return ratio(v) + " of the best" }},
	{"requests of other functions lost beside loops", 0, false, count},
	{"processes of a dormant instance", 0, false, count},
	{"memory of a runner, one tenant", 12 << 10, false, size},
	{"memory of a container, one tenant", 60 << 10, false, size},
}

// printGoals says how far the figures of this run are from the goals.
func printGoals() {
	if len(figures) == 0 {
		return
	}
	t := newTable("Goals and figures", "", "goal", "measured", "")
	for _, g := range goals {
		v, ok := figures[g.name]
		if !ok {
			continue
		}
		sign, met := "≤ ", v <= g.bound
		if g.least {
			sign, met = "≥ ", v >= g.bound
		}
		verdict := "met"
		switch {
		case !met && g.bound == 0:
			verdict = "missed"
		case !met:
			verdict = fmt.Sprintf("missed: %.2f of it", v/g.bound)
		}
		t.row(g.name, sign+g.text(g.bound), g.text(v), verdict)
	}
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
