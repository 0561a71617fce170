package main

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"time"
)

// result is one measurement.
type result struct {
	rate     float64 // requests a second
	p50, p99 float64 // microseconds
	cpu      float64 // of the whole machine, wrk included, microseconds a request
	hop      map[string]split
}

// split is CPU in microseconds a request.
type split struct{ user, system float64 }

var (
	ratePattern    = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)
	countPattern   = regexp.MustCompile(`(\d+) requests in`)
	latencyPattern = regexp.MustCompile(`(?m)^\s+(50|99)%\s+([0-9.]+)(us|ms|s)$`)
	failPattern    = regexp.MustCompile(`(?m)^\s*(Non-2xx.*|Socket errors.*)$`)
)

// load runs wrk for so long, and refuses a measurement with failed requests.
// script is a file in wrk's Lua, or empty.
func load(ctx context.Context, t target, connections, seconds int, script string) (result, error) {
	args := []string{"-t1", "-c" + strconv.Itoa(connections), "-d" + strconv.Itoa(seconds) + "s", "--timeout", "30s", "--latency"}
	if t.token != "" {
		args = append(args, "-H", "Authorization: Bearer "+t.token)
	}
	if script != "" {
		args = append(args, "-s", script)
	}
	before, beforeAll := t.ticks(), machineTicks()
	out, err := exec.CommandContext(ctx, "wrk", append(args, t.url+"?name=x")...).CombinedOutput()
	after, afterAll := t.ticks(), machineTicks()
	if err != nil {
		return result{}, fmt.Errorf("%s: wrk: %w\n%s", t.name, err, out)
	}
	if failed := failPattern.Find(out); failed != nil {
		return result{}, fmt.Errorf("%s, %d connections: requests failed: %s", t.name, connections, failed)
	}
	rate, count := number(ratePattern, out), number(countPattern, out)
	if count < 20 {
		return result{}, fmt.Errorf("%s: measured nothing: %.0f requests\n%s", t.name, count, out)
	}
	r := result{rate: rate, cpu: tickMicros(afterAll-beforeAll) / count, hop: map[string]split{}}
	for name := range t.hops {
		d := after[name].minus(before[name])
		if d.all() <= 0 {
			return result{}, fmt.Errorf("%s: measured nothing: its %s has used no CPU", t.name, name)
		}
		r.hop[name] = split{tickMicros(d.user) / count, tickMicros(d.system) / count}
	}
	for _, m := range latencyPattern.FindAllStringSubmatch(string(out), -1) {
		d, err := time.ParseDuration(m[2] + m[3])
		if err != nil {
			return result{}, err
		}
		if m[1] == "50" {
			r.p50 = float64(d.Microseconds())
		} else {
			r.p99 = float64(d.Microseconds())
		}
	}
	return r, nil
}

func number(re *regexp.Regexp, out []byte) float64 {
	m := re.FindSubmatch(out)
	if m == nil {
		return 0
	}
	v, _ := strconv.ParseFloat(string(m[1]), 64)
	return v
}

// ticks are the CPU times of the target's processes.
func (t target) ticks() map[string]ticks {
	all := map[string]ticks{}
	for name, read := range t.hops {
		all[name] = read()
	}
	return all
}
