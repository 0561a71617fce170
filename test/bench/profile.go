package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// profiled are the loads whose CPU is laid to parts.
var profiled = []struct {
	title, path, script string
	model               int // in models
	connections         int
}{
	{title: "Where the CPU of a warm request goes: `(ctx, cb)`, 16 connections, microseconds a request", model: 1, connections: 16},
	{title: "Where the CPU of 1 MiB up goes: `(ctx, req, res)`, 4 connections, microseconds a request", path: "up", script: bodyLoads[0].script, model: 3, connections: 4},
}

// profile says where the CPU of warm requests goes: user and system time of
// each part, and what perf, if it is there, sees on top of each.
func profile(ctx context.Context, p plan) error {
	for _, what := range profiled {
		var results []result
		var tops map[string]string
		for i := range p.rounds {
			r, err := newRound(ctx, false, models[what.model:what.model+1])
			if err != nil {
				return err
			}
			ours, script := r.targets[len(r.targets)-1], ""
			if what.path != "" {
				ours.url, script = ours.at(what.path), filepath.Join(r.dir, "script.lua")
				err = os.WriteFile(script, []byte(what.script), 0o600)
			}
			var one result
			if err == nil {
				asked := func(seconds int) (result, error) { return load(ctx, ours, what.connections, seconds, script) }
				one, tops, err = profileRound(ctx, r, asked, p.seconds, i == p.rounds-1)
			}
			r.close(err)
			if err != nil {
				return err
			}
			results = append(results, one)
		}
		printProfile(what.title, results, tops)
	}
	return nil
}

func printProfile(title string, results []result, tops map[string]string) {
	parts := []string{"proxy", "runner", "function"}
	t := newTable(title, "part", "its own code", "kernel on its behalf")
	for _, name := range parts {
		t.row(name, fmt.Sprintf("%.1f", median(each(results, func(r result) float64 { return r.hop[name].user }))),
			fmt.Sprintf("%.1f", median(each(results, func(r result) float64 { return r.hop[name].system }))))
	}
	for _, name := range parts {
		if tops[name] != "" {
			say("\nThe %s, by what perf found running:\n\n```\n%s\n```", name, tops[name])
		}
	}
}

// profileRound measures once, and if it is to record, each part once more.
func profileRound(ctx context.Context, r *round, asked func(int) (result, error), seconds int, record bool) (one result, tops map[string]string, err error) {
	if _, err := asked(1); err != nil {
		return one, nil, err
	}
	if one, err = asked(seconds); err != nil || !record {
		return one, nil, err
	}
	perf, err := exec.LookPath("perf")
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: there is no perf: no profile by function")
		return one, nil, nil
	}
	pids := map[string]int{"proxy": r.servicePID("bulkhead-proxy.service"), "runner": r.runner("a")}
	if all := nodes(r.cell("a").PID); len(all) > 0 {
		pids["function"] = all[0]
	}
	tops = map[string]string{}
	for name, pid := range pids {
		if tops[name], err = r.perf(ctx, perf, asked, seconds, pid); err != nil {
			return one, nil, err
		}
	}
	return one, tops, nil
}

// perf records one process while it is asked.
func (r *round) perf(ctx context.Context, perf string, asked func(int) (result, error), seconds, pid int) (string, error) {
	file := filepath.Join(r.dir, "perf."+strconv.Itoa(pid))
	record := exec.CommandContext(ctx, perf, "record", "-q", "-F", "499", "-o", file, "-p", strconv.Itoa(pid), "--", "sleep", strconv.Itoa(seconds))
	if err := record.Start(); err != nil {
		return "", fmt.Errorf("cannot start perf: %w", err)
	}
	_, err := asked(seconds + 1)
	if failed := record.Wait(); failed != nil || err != nil {
		return "", fmt.Errorf("cannot profile process %d: %v, %v", pid, failed, err)
	}
	out, err := exec.CommandContext(ctx, perf, "report", "--stdio", "-q", "-i", file, "--sort", "symbol").Output()
	if err != nil {
		return "", fmt.Errorf("cannot read a profile: %w", err)
	}
	var top []string
	for line := range strings.Lines(string(out)) {
		// 12.34%  [k] name  -  -
		f := strings.Fields(line)
		if len(f) >= 3 && strings.HasSuffix(f[0], "%") && len(top) < 12 {
			top = append(top, fmt.Sprintf("%7s %s %s", f[0], f[1], strings.TrimSpace(strings.TrimRight(strings.Join(f[2:], " "), " -"))))
		}
	}
	return strings.Join(top, "\n"), nil
}
