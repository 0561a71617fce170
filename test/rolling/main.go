// Command rolling shows what requests notice of patches and of worse: on a
// cluster of three hosts (test/host/fleet), under a constant load (test/load),
// every host is rebooted in turn by a rollout, schedulers are killed in the
// middle, hosts don't come back or lose power. It prints Markdown, and fails
// when something was lost that must not be. scripts/bench rollout builds what
// it needs and runs it.
//
//	main.go    flags and parts
//	rig.go     the cluster, its tenants, and one measured part
//	parts.go   what happens in each part: reboots, and what can go wrong
//	patches.go another image, another release
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
)

// plan is how much is measured.
type plan struct {
	cycles int // of the part cycles
	rate   int // requests a second
	keep   bool
}

func main() {
	var p plan
	flag.IntVar(&p.cycles, "cycles", 20, "how often every host is rebooted in the part cycles")
	flag.IntVar(&p.rate, "rate", 100, "requests a second")
	flag.BoolVar(&p.keep, "keep", false, "leave the cluster up: scripts/cluster -name rolling -dir .cache/rolling")
	flag.Usage = func() {
		fmt.Fprintf(os.Stderr, "rolling [flags] [part...]\nparts: %s\n", strings.Join(names(), " "))
		flag.PrintDefaults()
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, p, flag.Args())
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "rolling:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, p plan, wanted []string) error {
	if len(wanted) == 0 {
		wanted = names()
	}
	var chosen []part
	for _, name := range wanted {
		one := find(name)
		if one == nil {
			return fmt.Errorf("there is no part %q: want some of %s", name, strings.Join(names(), " "))
		}
		chosen = append(chosen, *one)
	}
	r, err := newRig(ctx, p)
	if err != nil {
		return err
	}
	defer r.close()
	fmt.Println("| | requests | failed | p50 | p99 | longest | echoes | WebSockets told, broken | 20 s answers, failed | a host took |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|---|")
	var failed error
	for _, one := range chosen {
		if err := r.measure(ctx, one); err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", one.name, err))
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return failed
}

func names() (all []string) {
	for _, p := range parts {
		all = append(all, p.name)
	}
	return all
}

func find(name string) *part {
	for i := range parts {
		if parts[i].name == name {
			return &parts[i]
		}
	}
	return nil
}
