package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// printStarts measures from an operator's or a tenant's act to the first right
// answer, each once a round.
func printStarts(ctx context.Context, c *cluster, rounds int) error {
	var puts, deploys, first []time.Duration
	for i := range max(rounds, 5) {
		tenant := fmt.Sprintf("start%d", i)
		took, err := c.startTenant(ctx, tenant)
		if err != nil {
			return err
		}
		puts = append(puts, took.put)
		deploys = append(deploys, took.deploy)
		first = append(first, took.code)
		if _, err := c.run(ctx, "tenant", "rm", tenant, "--purge"); err != nil {
			return err
		}
	}
	fmt.Printf("\nTo the first right answer, %d times each; median (min–max)\n", len(puts))
	for _, row := range []struct {
		what string
		ds   []time.Duration
	}{
		{"etcd put of a new tenant, its function there already", puts},
		{"etcd put of a new version of a function", deploys},
		{"code that came with the request (a spare takes it)", first},
	} {
		fmt.Printf("  %-54s %8s (%s–%s)\n", row.what, ms(medianOf(row.ds)), ms(slices.Min(row.ds)), ms(slices.Max(row.ds)))
	}
	return nil
}

func ms(d time.Duration) string { return d.Round(100 * time.Microsecond).String() }

// printMemory reads what a warm instance takes, its own pages and its share of
// those that others use as well (proportional set size, proc_pid_smaps(5)).
func (c *cluster) printMemory() error {
	ctx := context.Background()
	runner := pss(c.servicePID("bulkhead-load-0.service"))
	cell, err := containerPID(ctx, "bulkhead-load.0")
	if err != nil {
		return err
	}
	fmt.Printf("\nMemory, proportional set size\n  runner %s, cell %s", kib(runner), kib(pss(cell)))
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", cell))
	for _, list := range lists {
		children, _ := os.ReadFile(list)
		for _, child := range strings.Fields(string(children)) {
			pid, _ := strconv.Atoi(child)
			fmt.Printf(", node %s", kib(pss(pid)))
		}
	}
	fmt.Printf(", proxy (of all tenants) %s\n", kib(pss(c.servicePID("bulkhead-proxy.service"))))
	return nil
}

var pssPattern = regexp.MustCompile(`(?m)^Pss:\s+(\d+) kB`)

func pss(pid int) int {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0
	}
	return int(number(pssPattern, data))
}
