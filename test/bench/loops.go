package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

// The limits of the tenant whose code loops, and who else is there meanwhile.
const (
	block   = 200 * time.Millisecond
	storm   = 2 * block // limits.cpu
	beside  = 10        // requests of the same function in flight
	already = 30 * time.Millisecond
)

// spin is one loop and what everybody got.
type spin struct {
	over      time.Duration // from the limit to the guilty one's answer
	status    int
	named     bool // the answer says where in the code
	survivors int  // of the same function's other requests
	others    int  // of the other function's requests, those answered
	asked     int
	worst     time.Duration // of the other function's
}

// loops lets every kind of loop run beside other requests.
func loops(ctx context.Context, p plan) (err error) {
	c, err := newCluster(ctx)
	if err != nil {
		return err
	}
	defer func() { c.close(err) }()
	err = c.register(ctx, "loops", settings{
		"resources": settings{"memory": "512MiB", "cpu": 2, "pids": 256},
		"limits":    settings{"rate": 0, "concurrency": 1000, "block": block.String(), "cpu": storm.String()},
		"sleep":     settings{"freeze": "0s", "dormant": "0s"},
	})
	if err == nil {
		err = c.deploy(ctx, "loops", "other", "other.js", helloCallback)
	}
	if err != nil {
		return err
	}
	if _, err := c.function("loops", "other").until(ctx, time.Now(), helloX); err != nil {
		return err
	}
	spins := make([][]spin, len(kinds))
	for round := range p.rounds {
		for i, k := range kinds {
			s, err := c.spin(ctx, k, i, round)
			if err != nil {
				return fmt.Errorf("%s: %w", k.name, err)
			}
			spins[i] = append(spins[i], s)
		}
	}
	printLoops(spins)
	return nil
}

// spin deploys the code anew, so that each loop has a process of its own that
// nothing has happened to, and calls it.
func (c *cluster) spin(ctx context.Context, k kind, number, round int) (s spin, err error) {
	name := fmt.Sprintf("loop%d", number)
	if err := c.deploy(ctx, "loops", name, "f.js", k.code(round)); err != nil {
		return s, err
	}
	guilty := c.function("loops", name)
	if _, err := guilty.until(ctx, time.Now(), fmt.Sprintf(`{"round":%d}`, round)); err != nil {
		return s, err
	}
	defer c.etcd.Delete(context.WithoutCancel(ctx), "/bulkhead/functions/loops/"+name)
	time.Sleep(500 * time.Millisecond) // the next spare boots
	limit := block * time.Duration(max(k.limit, 1))
	var mu sync.Mutex
	var work sync.WaitGroup
	for range beside {
		work.Go(func() {
			a, err := guilty.ask(ctx, "GET", fmt.Sprintf("?wait=%d", (limit+block).Milliseconds()), nil)
			mu.Lock()
			defer mu.Unlock()
			if err == nil && a.status == 200 && a.body == `"survived"` {
				s.survivors++
			}
		})
	}
	over := make(chan struct{})
	work.Go(func() { s.others, s.asked, s.worst = keepAsking(ctx, c.function("loops", "other"), over) })
	time.Sleep(already) // so that all of them are in flight
	a, err := guilty.ask(ctx, "GET", "?guilty=1", nil)
	close(over)
	work.Wait()
	s.over, s.status, s.named = a.took-limit, a.status, strings.Contains(a.body, "f.js:")
	if err == nil && a.status != 508 {
		err = fmt.Errorf("the guilty request was answered %d %s", a.status, a.body)
	}
	return s, err
}

// pace is how often the other function is asked.
const pace = 10 * time.Millisecond

// keepAsking asks at a steady pace until over is closed.
func keepAsking(ctx context.Context, t target, over chan struct{}) (answered, asked int, worst time.Duration) {
	next := time.NewTicker(pace)
	defer next.Stop()
	for {
		select {
		case <-over:
			return answered, asked, worst
		case <-next.C:
		}
		took, err := t.once(ctx, helloX)
		asked++
		if err == nil {
			answered++
			worst = max(worst, took)
		}
	}
}

func printLoops(spins [][]spin) {
	t := newTable(fmt.Sprintf("Loops: limits.block %v, %d requests of the same function in flight", block, beside),
		"code", "over the limit, p50", "most", "names the line", "others of the same function answered", "of the other function", "slowest of those")
	var interrupted, killed []time.Duration
	survived, besides, lost := 0, 0, 0
	for i, ss := range spins {
		over := each(ss, func(s spin) time.Duration { return s.over })
		if kinds[i].ends {
			killed = append(killed, over...)
		} else {
			interrupted = append(interrupted, over...)
		}
		named, survivors, others, asked := 0, 0, 0, 0
		for _, s := range ss {
			survivors, others, asked = survivors+s.survivors, others+s.others, asked+s.asked
			if s.named {
				named++
			}
		}
		lost += asked - others
		if !kinds[i].ends {
			survived, besides = survived+survivors, besides+len(ss)*beside
		}
		t.row(kinds[i].name, ms(median(over)), ms(quantile(over, 1)), fmt.Sprintf("%d of %d", named, len(ss)),
			fmt.Sprintf("%d of %d", survivors, len(ss)*beside), fmt.Sprintf("%d of %d", others, asked),
			ms(quantile(each(ss, func(s spin) time.Duration { return s.worst }), 1)))
	}
	figures["a loop that can be interrupted, answered after the limit, p50"] = millis(median(interrupted))
	figures["a loop that can be interrupted, answered after the limit, p95"] = millis(quantile(interrupted, 0.95))
	figures["code that nothing interrupts, answered after the limit, p50"] = millis(median(killed))
	figures["requests of other functions lost beside loops"] = float64(lost)
	summary := func(what string, over []time.Duration) {
		say("\nCode %s: %d times, over the limit p50 %s, p95 %s, most %s.", what, len(over), ms(median(over)), ms(quantile(over, 0.95)), ms(quantile(over, 1)))
	}
	summary("that can be interrupted", interrupted)
	summary("that ends with its process", killed)
	say("\nBeside code that can be interrupted, %d of %d requests of the same function were answered.", survived, besides)
}
