// Command bench measures warm requests through a whole cluster of one machine
// (proxy, jailed runner, container, a checked token), interleaved with bare
// node:http in a container of the same limits and with workerd, and prints
// shares of bare. scripts/bench builds what it needs and runs it.
//
//	main.go      flags, rounds, the table
//	cluster.go   a cluster of its own, with three functions
//	peers.go     what it is compared to
//	load.go      one measurement: wrk, and where the CPU went
//	start.go     times to the first answer
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"
)

// target is something that answers GET /…?name=x with {"hello":"x"}.
type target struct {
	name  string
	url   string
	token string
	hops  map[string]func() int // whose CPU is told apart: by name, its ticks until now
}

func main() {
	rounds := flag.Int("rounds", 5, "rounds; the median of each figure is printed")
	seconds := flag.Int("seconds", 3, "seconds a measurement")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *rounds, *seconds); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, rounds, seconds int) (err error) {
	c, err := newCluster(ctx)
	if err != nil {
		return err
	}
	defer func() { c.close() }()
	bare, err := startBare(ctx, c.image)
	if err != nil {
		return err
	}
	defer bare.close()
	worker, err := startWorkerd(ctx)
	if err != nil {
		return err
	}
	defer worker.close()
	if err := printStarts(ctx, c, rounds); err != nil {
		return err
	}
	targets := append([]target{bare.target, worker.target}, c.targets...)
	fmt.Printf("\n%d rounds of %d s each, interleaved; medians. Shares are of bare node:http in the same round.\n", rounds, seconds)
	for _, connections := range []int{1, 16, 64} {
		results, err := measure(ctx, targets, connections, rounds, seconds)
		if err != nil {
			return err
		}
		printTable(connections, targets, results)
	}
	return c.printMemory()
}

// measure goes round the targets, so that a machine that slows down slows all
// of them.
func measure(ctx context.Context, targets []target, connections, rounds, seconds int) (map[string][]result, error) {
	results := map[string][]result{}
	for range rounds {
		for _, t := range targets {
			r, err := load(ctx, t, connections, seconds)
			if err != nil {
				return nil, err
			}
			results[t.name] = append(results[t.name], r)
		}
	}
	return results, nil
}

func printTable(connections int, targets []target, results map[string][]result) {
	base := results[targets[0].name]
	fmt.Printf("\n%d connection(s)\n", connections)
	fmt.Printf("  %-28s %9s %7s %15s %9s %9s %10s  %s\n", "", "req/s", "share", "(min–max)", "p50", "p99", "CPU µs/req", "of that, per hop")
	for _, t := range targets {
		rs := results[t.name]
		var shares []float64
		for i, r := range rs {
			shares = append(shares, r.rate/base[i].rate)
		}
		fmt.Printf("  %-28s %9.0f %7.2f %15s %9s %9s %10.0f  %s\n", t.name,
			median(rs, func(r result) float64 { return r.rate }), medianOf(shares),
			fmt.Sprintf("(%.2f–%.2f)", slices.Min(shares), slices.Max(shares)),
			micros(median(rs, func(r result) float64 { return r.p50 })), micros(median(rs, func(r result) float64 { return r.p99 })),
			median(rs, func(r result) float64 { return r.cpu }), hops(t, rs))
	}
}

func hops(t target, rs []result) string {
	var parts []string
	for _, name := range []string{"proxy", "runner", "function", "server"} {
		if _, ok := t.hops[name]; ok {
			parts = append(parts, fmt.Sprintf("%s %.1f", name, median(rs, func(r result) float64 { return r.hop[name] })))
		}
	}
	return strings.Join(parts, ", ")
}

func median[T any](rs []T, of func(T) float64) float64 {
	var vs []float64
	for _, r := range rs {
		vs = append(vs, of(r))
	}
	return medianOf(vs)
}

func medianOf[T cmp.Ordered](vs []T) T {
	vs = slices.Sorted(slices.Values(vs))
	return vs[len(vs)/2]
}

func micros(us float64) string {
	return time.Duration(us * float64(time.Microsecond)).Round(time.Microsecond).String()
}
