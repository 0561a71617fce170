package main

import (
	"context"
	"fmt"
	"time"

	keys "bulkhead/cluster"
)

// idleFor is how long nothing is asked of a cluster while its CPU is counted.
const idleFor = 10 * time.Second

// napper is a tenant that is dormant whenever it is not asked for a second.
var napper = settings{"limits": settings{"rate": 0}, "sleep": settings{"freeze": "0s", "dormant": "1s"}}

const helloCallback = `module.exports = (ctx, cb) => cb(null, { hello: ctx.query.name || 'x' });`

// cost is what a number of registered tenants costs.
type cost struct {
	tenants                int
	placed                 time.Duration // from the first put to the last one dormant
	upMemory, proxyMemory  int           // KiB
	upIdle, proxyIdle      float64       // CPU, of a core
	machineIdle            float64
	put, wake, warmRequest []time.Duration
	busy                   float64 // CPU of up for each tenant that is registered, woken and removed, ms
}

// growth registers more and more tenants, all dormant, on one cluster.
func growth(ctx context.Context, p plan) (err error) {
	c, err := newCluster(ctx)
	if err != nil {
		return err
	}
	defer func() { c.close(err) }()
	var costs []cost
	for i, n := range p.tenants {
		from := 0
		if i > 0 {
			from = p.tenants[i-1]
		}
		s, err := c.grow(ctx, from, n, max(p.rounds, 5))
		if err != nil {
			return fmt.Errorf("with %d tenants: %w", n, err)
		}
		costs = append(costs, s)
	}
	printGrowth(costs)
	return nil
}

// grow registers the tenants from one number to another, and measures.
func (c *cluster) grow(ctx context.Context, from, to, rounds int) (cost, error) {
	s := cost{tenants: to}
	begun := time.Now()
	for i := from; i < to; i++ {
		name := fmt.Sprintf("t%d", i)
		if err := c.deploy(ctx, name, "f", "f.js", helloCallback); err != nil {
			return s, err
		}
		if err := c.register(ctx, name, napper); err != nil {
			return s, err
		}
	}
	err := await(ctx, fmt.Sprintf("%d tenants dormant", to), 10*time.Minute, func() bool {
		time.Sleep(100 * time.Millisecond)
		return c.phases(ctx, "")[keys.Dormant] >= to
	})
	if err != nil {
		return s, fmt.Errorf("%w: %v", err, c.phases(ctx, ""))
	}
	s.placed = time.Since(begun)
	if err := c.rest(ctx); err != nil {
		return s, err
	}
	c.idle(&s)
	up := c.up.Process.Pid
	before := processTicks(up)
	for i := range rounds {
		if err := c.oneMore(ctx, &s, fmt.Sprintf("more%d", i), fmt.Sprintf("t%d", (i*to)/rounds)); err != nil {
			return s, err
		}
	}
	s.busy = tickMicros(processTicks(up).minus(before).all()) / 1000 / float64(rounds)
	return s, nil
}

// rest waits until the pool is full, no container is being removed and the
// machine has had a moment.
func (c *cluster) rest(ctx context.Context) error {
	err := await(ctx, "two blank cells, and none that leaves", 30*time.Second, func() bool { return c.blank() >= 2 && c.leaving() == 0 })
	time.Sleep(500 * time.Millisecond)
	return err
}

// idle measures a cluster of which nothing is asked.
func (c *cluster) idle(s *cost) {
	up, proxy := c.up.Process.Pid, c.servicePID("bulkhead-proxy.service")
	upBefore, proxyBefore, machineBefore := processTicks(up), processTicks(proxy), machineTicks()
	time.Sleep(idleFor)
	share := func(n int) float64 { return tickMicros(n) / float64(idleFor.Microseconds()) }
	s.upIdle, s.proxyIdle = share(processTicks(up).minus(upBefore).all()), share(processTicks(proxy).minus(proxyBefore).all())
	s.machineIdle = share(machineTicks() - machineBefore)
	s.upMemory, s.proxyMemory = pss(up), pss(proxy)
}

// oneMore registers another tenant, calls it, wakes one that was there before,
// and asks that one while it is warm.
func (c *cluster) oneMore(ctx context.Context, s *cost, more, there string) error {
	if err := c.rest(ctx); err != nil {
		return err
	}
	if err := c.deploy(ctx, more, "f", "f.js", helloCallback); err != nil {
		return err
	}
	begun := time.Now()
	if err := c.register(ctx, more, napper); err != nil {
		return err
	}
	took, err := c.function(more, "f").until(ctx, begun, helloX)
	if err != nil {
		return err
	}
	s.put = append(s.put, took)
	if err := c.rest(ctx); err != nil {
		return err
	}
	if err := c.asleep(ctx, there); err != nil {
		return err
	}
	t := c.function(there, "f")
	if took, err = t.once(ctx, helloX); err != nil {
		return err
	}
	s.wake = append(s.wake, took)
	for range 100 {
		if took, err = t.once(ctx, helloX); err != nil {
			return err
		}
		s.warmRequest = append(s.warmRequest, took)
	}
	return c.remove(ctx, more)
}

func printGrowth(costs []cost) {
	t := newTable("Growth: registered tenants on one host, all dormant",
		"tenants", "etcd, scheduler and agent: memory", "a tenant more", "CPU, idle", "proxy: memory", "CPU, idle", "all placed after", "a tenant placed in", "CPU of a tenant's coming, waking, going")
	percent := func(v float64) string { return fmt.Sprintf("%.2f%%", 100*v) }
	for i, s := range costs {
		more, n := "", float64(s.tenants)
		if i > 0 {
			n -= float64(costs[i-1].tenants)
			more = fmt.Sprintf("%.0f KiB", float64(s.upMemory-costs[i-1].upMemory)/n)
		}
		t.row(fmt.Sprint(s.tenants), mib(s.upMemory), more, percent(s.upIdle), mib(s.proxyMemory), percent(s.proxyIdle),
			s.placed.Round(time.Millisecond*10).String(), ms(time.Duration(float64(s.placed)/n)), fmt.Sprintf("%.0f ms", s.busy))
	}
	t = newTable("The same: how long things take; median (least–most)",
		"tenants", "put of one more to its first 200", "first request to a dormant one", "warm request, p50", "p99")
	for _, s := range costs {
		t.row(fmt.Sprint(s.tenants), spread(s.put, ms), spread(s.wake, ms), ms(median(s.warmRequest)), ms(quantile(s.warmRequest, 0.99)))
	}
	say("\nIdle CPU is of one core, over %v, with nothing asked.", idleFor)
}
