// Command bench measures Bulkhead on this machine: whole clusters of one host
// on loopback, beside bare node:http in a container of the same limits and
// workerd, in the same run. It prints Markdown, and fails when it measured
// nothing. scripts/bench builds what it needs and runs it.
//
//	main.go      flags and sections
//	warm.go      requests to functions that run: every programming model (models.go)
//	bodies.go    the same with large bodies, and streams (stream.go)
//	cold.go      times to the first answer of what sleeps or is new
//	loops.go     code that never comes back (kinds.go): how soon it is answered, who survives
//	memory.go    what tenants take, by their number
//	growth.go    what registered tenants cost, by their number
//	profile.go   where the CPU of a warm request goes
//	overload.go  what gets done when several times as much is asked for
//	neighbours.go what a victim notices of attacks.go, in a world of its own (stage.go)
//	goals.go     how far all that is from what we want
//
//	cluster.go   a cluster of its own; tenants.go: what is registered in it
//	peers.go     what it is compared to
//	load.go      wrk, and where the CPU went
//	ask.go       single requests
//	processes.go what /proc says
//	table.go     medians and tables
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"time"
)

// plan is how much is measured.
type plan struct {
	rounds  int    // of everything that is compared
	seconds int    // of each load
	samples int    // of each time to a first answer
	warm    []int  // tenants for the memory section
	tenants []int  // tenants for the growth section
	only    string // of the attacks, those with this in their name
	inside  string // the resolv.conf of the world that this runs in; empty: in none
}

type section struct {
	name string
	run  func(context.Context, plan) error
}

// sections in the order in which they run when none is named.
var sections = []section{
	{"warm", warm},
	{"bodies", bodies},
	{"cold", cold},
	{"loops", loops},
	{"memory", memory},
	{"growth", growth},
	{"profile", profile},
	{"overload", overload},
	{"neighbours", neighbours},
}

func main() {
	var p plan
	flag.IntVar(&p.rounds, "rounds", 5, "rounds of what is compared; medians are printed, with the least and the most")
	flag.IntVar(&p.seconds, "seconds", 3, "seconds a load")
	flag.IntVar(&p.samples, "samples", 30, "times that each first answer is measured")
	flag.Func("warm", "tenants of the memory section (default 1,10,100)", numbers(&p.warm, 1, 10, 100))
	flag.Func("tenants", "tenants of the growth section (default 10,100,300,1000)", numbers(&p.tenants, 10, 100, 300, 1000))
	flag.StringVar(&p.only, "only", "", "of the neighbours section's attacks, those with this in their name")
	flag.StringVar(&p.inside, insideFlag, "", "set by the neighbours section for itself")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, p, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, p plan, names []string) error {
	for _, name := range names {
		if !slices.ContainsFunc(sections, func(s section) bool { return s.name == name }) {
			return fmt.Errorf("there is no section %q", name)
		}
	}
	var failed []error
	if p.inside == "" {
		say("Taken on %s, %s.\n", time.Now().UTC().Format("2006-01-02 15:04 MST"), machine())
	}
	for _, s := range sections {
		if len(names) > 0 && !slices.Contains(names, s.name) {
			continue
		}
		begun := time.Now()
		fmt.Fprintf(os.Stderr, "bench: %s\n", s.name)
		if err := s.run(ctx, p); err != nil { // the others' figures are good
			failed = append(failed, fmt.Errorf("%s: %w", s.name, err))
			fmt.Fprintf(os.Stderr, "bench: %v\n", failed[len(failed)-1])
		}
		if ctx.Err() != nil {
			break
		}
		fmt.Fprintf(os.Stderr, "bench: %s took %v\n", s.name, time.Since(begun).Round(time.Second))
	}
	printGoals()
	return errors.Join(failed...)
}

// numbers is a flag of numbers with commas between them.
func numbers(to *[]int, standard ...int) func(string) error {
	*to = standard
	return func(text string) error {
		*to = nil
		for part := range strings.SplitSeq(text, ",") {
			n, err := strconv.Atoi(part)
			if err != nil || n < 1 {
				return fmt.Errorf("%q is no number of tenants", part)
			}
			*to = append(*to, n)
		}
		slices.Sort(*to)
		return nil
	}
}
