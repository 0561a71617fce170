package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

var connections = []int{1, 16, 64}

// warm measures requests to functions that run. Each round starts everything
// anew, and goes round all targets, so that a machine that slows down slows
// all of them.
func warm(ctx context.Context, p plan) error {
	var names []string
	results := make([]map[string][]result, len(connections))
	for i := range results {
		results[i] = map[string][]result{}
	}
	for range p.rounds {
		err := warmRound(ctx, p.seconds, func(i int, t target, r result) {
			if !slices.Contains(names, t.name) {
				names = append(names, t.name)
			}
			results[i][t.name] = append(results[i][t.name], r)
		})
		if err != nil {
			return err
		}
	}
	for i, n := range connections {
		printLoads(fmt.Sprintf("Warm, small JSON, %d connections", n), names, results[i])
		noteWarm(n, names[0], results[i])
	}
	return nil
}

// noteWarm keeps what there are goals for.
func noteWarm(connections int, bare string, results map[string][]result) {
	base := results[bare]
	for _, m := range models {
		rs := results["bulkhead, `"+m.name+"`"]
		shares := make([]float64, len(rs))
		for i, r := range rs {
			shares[i] = r.rate / base[i].rate
		}
		figures[fmt.Sprintf("warm, `%s`, %d connections", m.name, connections)] = median(shares)
		if connections == 1 {
			p50 := func(r result) float64 { return r.p50 }
			figures[fmt.Sprintf("warm, `%s`, 1 connection, p50 above bare", m.name)] = median(each(rs, p50)) - median(each(base, p50))
		}
	}
}

func warmRound(ctx context.Context, seconds int, take func(int, target, result)) (err error) {
	r, err := newRound(ctx, true, models)
	if err != nil {
		return err
	}
	defer func() { r.close(err) }()
	for _, t := range r.targets { // so that all code is compiled
		if _, err := load(ctx, t, 16, 1, ""); err != nil {
			return err
		}
	}
	for i, n := range connections {
		for _, t := range r.targets {
			one, err := load(ctx, t, n, seconds, "")
			if err != nil {
				return err
			}
			take(i, t, one)
		}
	}
	return nil
}

// printLoads prints shares of the first target's, round by round.
func printLoads(title string, names []string, results map[string][]result) {
	base := results[names[0]]
	t := newTable(title, "", "requests/s", "share of bare (least–most)", "p50", "p99", "CPU a request, whole machine", "× bare", "of that, in")
	for _, name := range names {
		rs := results[name]
		shares, costs := make([]float64, len(rs)), make([]float64, len(rs))
		for i, r := range rs {
			shares[i], costs[i] = r.rate/base[i].rate, r.cpu/base[i].cpu
		}
		t.row(name, whole(median(each(rs, func(r result) float64 { return r.rate }))), spread(shares, ratio),
			micros(median(each(rs, func(r result) float64 { return r.p50 }))), micros(median(each(rs, func(r result) float64 { return r.p99 }))),
			whole(median(each(rs, func(r result) float64 { return r.cpu })))+" µs", ratio(median(costs)), hops(rs))
	}
}

func hops(rs []result) string {
	var parts []string
	for _, name := range []string{"proxy", "runner", "function", "server"} {
		if _, ok := rs[0].hop[name]; ok {
			parts = append(parts, fmt.Sprintf("%s %.1f", name, median(each(rs, func(r result) float64 { return r.hop[name].user + r.hop[name].system }))))
		}
	}
	return strings.Join(parts, ", ")
}
