package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"
)

// worker burns some milliseconds, so that what is refused costs little beside
// what is done, as with most code worth calling.
const worker = `module.exports = (cb) => { let n = 0; for (let i = 0; i < 4e6; i++) n += i % 7; cb(null, { hello: n > 0 ? 'x' : n }); };`

// overloads are the rates that come, in multiples of the most that was done.
var overloads = []float64{0.5, 1, 2, 5}

// served is what became of one load.
type served struct {
	rate    float64 // asked, a second
	good    float64 // answered with 200 a second
	took    []time.Duration
	refused map[string]int
	slowest time.Duration // of those refused
}

// overload finds out how much a tenant gets done at best, and how much when
// several times as much is asked for.
func overload(ctx context.Context, p plan) (err error) {
	if p.inside == "" {
		return enact(ctx, p, "overload")
	}
	c, err := newCluster(ctx, "--resolv-conf", p.inside)
	if err != nil {
		return err
	}
	defer func() { c.close(err) }()
	if err = c.deploy(ctx, "busy", "f", "f.js", worker); err != nil {
		return err
	}
	err = c.register(ctx, "busy", settings{
		"resources": settings{"memory": "256MiB", "cpu": 1},
		"limits":    settings{"rate": 0, "wall": "10s"},
		"sleep":     settings{"freeze": "0s", "dormant": "0s"}, "replicas": settings{"min": 1, "max": 1},
	})
	if err != nil {
		return err
	}
	t := c.function("busy", "f")
	if _, err = t.until(ctx, time.Now(), helloX); err != nil {
		return err
	}
	window := p.window()
	var peaks []float64
	results := make([][]served, len(overloads))
	for range p.rounds {
		peak := 0.0
		for _, workers := range []int{4, 16, 64} {
			peak = max(peak, atOnce(ctx, t, workers, window/2))
		}
		if peak < 10 {
			return fmt.Errorf("measured nothing: at best %.1f requests a second", peak)
		}
		peaks = append(peaks, peak)
		for i, times := range overloads {
			s := openLoop(ctx, t, times*peak, window)
			fmt.Fprintf(os.Stderr, "bench: peak %.0f/s; %.1f×: %.0f/s good, %v refused\n", peak, times, s.good, s.refused)
			s.good /= peak
			results[i] = append(results[i], s)
		}
	}
	printOverload(peaks, results)
	return nil
}

// crowd keeps many connections.
var crowd = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 8192, DisableCompression: true}}

func (t target) status(ctx context.Context) (status int, body string, took time.Duration) {
	begun := time.Now()
	req, err := http.NewRequestWithContext(ctx, "GET", t.url, nil)
	if err != nil {
		return 0, err.Error(), 0
	}
	req.Header.Set("Authorization", "Bearer "+t.token)
	resp, err := crowd.Do(req)
	if err != nil {
		return 0, "no answer", time.Since(begun)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), time.Since(begun)
}

// atOnce is how much is done when so many ask, each when it has its answer.
func atOnce(ctx context.Context, t target, workers int, window time.Duration) float64 {
	var mu sync.Mutex
	var work sync.WaitGroup
	good, end := 0, time.Now().Add(window)
	for range workers {
		work.Go(func() {
			for time.Now().Before(end) && ctx.Err() == nil {
				if status, body, _ := t.status(ctx); status == 200 && body == helloX && time.Now().Before(end) {
					mu.Lock()
					good++
					mu.Unlock()
				}
			}
		})
	}
	work.Wait()
	return float64(good) / window.Seconds()
}

// openLoop asks at a constant rate, whatever comes back.
func openLoop(ctx context.Context, t target, rate float64, window time.Duration) served {
	s := served{rate: rate, refused: map[string]int{}}
	var mu sync.Mutex
	begun := time.Now()
	asking, cancel := context.WithTimeout(ctx, window)
	defer cancel()
	flood(asking, int(rate), 8000, func(int) {
		status, body, took := t.status(ctx)
		ended := time.Since(begun)
		mu.Lock()
		defer mu.Unlock()
		if status == 200 && body == helloX {
			if s.took = append(s.took, took); ended <= window {
				s.good++
			}
			return
		}
		s.refused[kindOf(status, body)]++
		s.slowest = max(s.slowest, took)
	})
	s.good /= window.Seconds()
	return s
}

func printOverload(peaks []float64, results [][]served) {
	t := newTable("Overload: one tenant, code of some milliseconds, "+fmt.Sprintf("at best %s requests a second", spread(peaks, whole)),
		"asked for", "done, of the best (least–most)", "p50 of what is done", "p99", "refused", "slowest refusal", "with")
	for i, times := range overloads {
		rs := results[i]
		var took []time.Duration
		with, refused, slowest := map[string]int{}, 0, time.Duration(0)
		for _, r := range rs {
			took = append(took, r.took...)
			slowest = max(slowest, r.slowest)
			for kind, n := range r.refused {
				with[kind] += n
				refused += n
			}
		}
		goods := each(rs, func(r served) float64 { return r.good })
		if times == overloads[len(overloads)-1] {
			figures["done at 5 times what can be done"] = median(goods)
		}
		kinds := slices.Sorted(func(yield func(string) bool) {
			for kind, n := range with {
				if !yield(fmt.Sprintf("%d × `%s`", n, kind)) {
					return
				}
			}
		})
		if len(took) == 0 {
			took = []time.Duration{0}
		}
		t.row(fmt.Sprintf("%.1f×", times), spread(goods, ratio), ms(median(took)), ms(quantile(took, 0.99)),
			fmt.Sprintf("%d of %d", refused, refused+len(took)), ms(slowest), fmt.Sprint(kinds))
	}
}
