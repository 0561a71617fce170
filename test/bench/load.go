package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// result is one measurement.
type result struct {
	rate     float64 // requests a second
	p50, p99 float64 // microseconds
	cpu      float64 // of the whole machine, wrk included, microseconds a request
	hop      map[string]float64
}

var (
	ratePattern    = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)
	countPattern   = regexp.MustCompile(`(\d+) requests in`)
	latencyPattern = regexp.MustCompile(`(?m)^\s+(50|99)%\s+([0-9.]+)(us|ms|s)$`)
	failPattern    = regexp.MustCompile(`(?m)^\s*(Non-2xx.*|Socket errors.*)$`)
)

// load runs wrk for so long, and refuses a measurement with failed requests.
func load(ctx context.Context, t target, connections, seconds int) (result, error) {
	args := []string{"-t1", "-c" + strconv.Itoa(connections), "-d" + strconv.Itoa(seconds) + "s", "--latency", "-H", "Authorization: Bearer " + t.token, t.url}
	before, beforeAll := t.ticks(), machineTicks()
	out, err := exec.CommandContext(ctx, "wrk", args...).CombinedOutput()
	after, afterAll := t.ticks(), machineTicks()
	if err != nil {
		return result{}, fmt.Errorf("%s: wrk: %w\n%s", t.name, err, out)
	}
	if failed := failPattern.Find(out); failed != nil {
		return result{}, fmt.Errorf("%s: requests failed: %s", t.name, failed)
	}
	rate, count := number(ratePattern, out), number(countPattern, out)
	if count < 100 {
		return result{}, fmt.Errorf("%s: measured nothing: %.0f requests\n%s", t.name, count, out)
	}
	r := result{rate: rate, cpu: tickMicros(afterAll-beforeAll) / count, hop: map[string]float64{}}
	for name := range t.hops {
		r.hop[name] = tickMicros(after[name]-before[name]) / count
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
func (t target) ticks() map[string]int {
	all := map[string]int{}
	for name, read := range t.hops {
		all[name] = read()
	}
	return all
}

// processTicks is a process's user and system time (proc_pid_stat(5)).
func processTicks(pid int) int {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return user + system
}

// machineTicks is the time that all cores have not been idle (proc_stat(5)).
func machineTicks() int {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(data), "\n")
	busy := 0
	for i, f := range strings.Fields(line)[1:] {
		if n, _ := strconv.Atoi(f); i != 3 && i != 4 && i < 8 { // neither idle nor waiting for disks
			busy += n
		}
	}
	return busy
}

// tickMicros converts; USER_HZ is 100 on Linux.
func tickMicros(ticks int) float64 { return float64(ticks) * 10_000 }
