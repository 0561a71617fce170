package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	steady "bulkhead/test/load"
)

// victimEvery is the victim's steady load: 50 requests a second, whatever
// comes back.
const victimEvery = 20 * time.Millisecond

// suffering is what the victim got, in one round, during one attack.
type suffering struct {
	quiet, under steady.Result
	before       time.Duration // the quiet p99s around it: their mean
	told         string
}

// neighbours lets a tenant attack in every way, while another's requests come
// at a constant rate.
func neighbours(ctx context.Context, p plan) error {
	if p.inside == "" {
		return enact(ctx, p, "neighbours")
	}
	c, err := newCluster(ctx, "--resolv-conf", p.inside)
	if err != nil {
		return err
	}
	defer func() { c.close(err) }()
	chosen := slices.DeleteFunc(slices.Clone(attacks), func(a attack) bool { return !strings.Contains(a.name, p.only) })
	if err = c.setUp(ctx, chosen); err != nil {
		return err
	}
	all := make([][]suffering, len(chosen))
	for range p.rounds {
		quiet, err := c.watchVictim(ctx, p.window(), nil)
		if err != nil {
			return err
		}
		for i, a := range chosen {
			s, err := c.suffer(ctx, a, p.window(), quiet)
			if err != nil {
				return fmt.Errorf("%s: %w", a.name, err)
			}
			quiet = s.quiet
			all[i] = append(all[i], s)
			fmt.Fprintf(os.Stderr, "bench: %s: %v; then quiet: %v; told %s\n", a.name, s.under, s.quiet, s.told)
		}
	}
	printNeighbours(chosen, all)
	return nil
}

// window is how long an attack lasts, and how long it is quiet around it.
func (p plan) window() time.Duration { return time.Duration(p.seconds) * 5 * time.Second }

// setUp registers the victim, the attacker and, if they are needed, those who
// sleep.
func (c *cluster) setUp(ctx context.Context, chosen []attack) error {
	never := settings{"freeze": "0s", "dormant": "0s"}
	if err := c.deploy(ctx, "victim", "f", "f.js", helloCallback); err != nil {
		return err
	}
	if err := c.register(ctx, "victim", settings{"sleep": never, "replicas": settings{"min": 1, "max": 1}}); err != nil {
		return err
	}
	if _, err := c.function("victim", "f").until(ctx, time.Now(), helloX); err != nil {
		return err
	}
	if !slices.ContainsFunc(chosen, func(a attack) bool { return strings.HasPrefix(a.name, "cold") }) {
		return nil
	}
	for i := range sleepers {
		if err := c.deploy(ctx, sleeper(i), "f", "f.js", helloCallback); err != nil {
			return err
		}
		if err := c.register(ctx, sleeper(i), settings{"sleep": settings{"freeze": "0s", "dormant": "1s"}}); err != nil {
			return err
		}
	}
	return await(ctx, "all sleepers dormant", 3*time.Minute, func() bool {
		return c.phases(ctx, "")["dormant"] >= sleepers
	})
}

// suffer attacks while the victim is asked, and lets the machine come to rest
// before it is quiet again.
func (c *cluster) suffer(ctx context.Context, a attack, window time.Duration, quiet steady.Result) (s suffering, err error) {
	if a.code != "" {
		// The attacker comes anew, so that nothing of the last attack is left.
		if err = c.deploy(ctx, attacker, "f", "f.js", a.code); err == nil {
			err = c.register(ctx, attacker, settings{"replicas": settings{"max": 4}})
		}
		if err == nil {
			err = await(ctx, "the attacker is known", 30*time.Second, func() bool {
				got, err := c.function(attacker, "none").ask(ctx, "GET", "", nil)
				return err == nil && got.status == 404 && strings.Contains(got.body, "function")
			})
		}
		if err != nil {
			return s, err
		}
	}
	var got *answers
	s.under, err = c.watchVictim(ctx, window, func() { got = a.run(ctx, c, window) })
	if err != nil {
		return s, err
	}
	if a.told != nil {
		s.told = a.told(ctx, c, got)
	} else {
		s.told = got.told()
	}
	if a.code != "" {
		if err = c.remove(ctx, attacker); err != nil {
			return s, err
		}
		err = await(ctx, "the attacker gone", time.Minute, func() bool { return c.runner(attacker) == 0 })
	}
	if err == nil {
		err = c.rest(ctx)
	}
	if err != nil {
		return s, err
	}
	s.quiet, err = c.watchVictim(ctx, window, nil)
	s.before = (quiet.P99 + s.quiet.P99) / 2
	return s, err
}

// watchVictim asks the victim for so long, while something else happens.
func (c *cluster) watchVictim(ctx context.Context, window time.Duration, meanwhile func()) (steady.Result, error) {
	t := c.function("victim", "f")
	l := steady.Start(ctx, steady.Options{
		Proxies: []string{c.proxy}, Every: victimEvery, Timeout: 10 * time.Second,
		Calls: []steady.Call{{Path: strings.TrimPrefix(t.url, c.proxy), Token: t.token, Want: helloX}},
	})
	if meanwhile != nil {
		meanwhile()
	} else if err := l.Await(ctx, int(window/victimEvery)); err != nil {
		l.Stop()
		return steady.Result{}, err
	}
	r := l.Stop()
	if r.Sent < int(window/victimEvery)/2 {
		return r, fmt.Errorf("the victim was asked %d times in %v: this program had too little CPU to measure anything", r.Sent, window)
	}
	return r, nil
}

func printNeighbours(chosen []attack, all [][]suffering) {
	t := newTable("A noisy neighbour: a victim's 50 requests a second, quiet and under attack", "attack", "p50, quiet", "p50, attacked", "p99, quiet", "p99, attacked", "× (least–most)", "failed", "what the attacker is told")
	for i, a := range chosen {
		ss := all[i]
		failed, sent := 0, 0
		for _, s := range ss {
			failed, sent = failed+len(s.under.Failed), sent+s.under.Sent
			for _, f := range s.under.Failed[:min(3, len(s.under.Failed))] {
				fmt.Fprintf(os.Stderr, "bench: %s: %v\n", a.name, f)
			}
		}
		times := each(ss, func(s suffering) float64 { return float64(s.under.P99) / float64(s.before) })
		p50 := func(of func(suffering) steady.Result) string {
			return ms(median(each(ss, func(s suffering) time.Duration { return of(s).P50 })))
		}
		t.row(a.name, p50(func(s suffering) steady.Result { return s.quiet }), p50(func(s suffering) steady.Result { return s.under }),
			ms(median(each(ss, func(s suffering) time.Duration { return s.before }))), ms(median(each(ss, func(s suffering) time.Duration { return s.under.P99 }))),
			spread(times, ratio), fmt.Sprintf("%d of %d", failed, sent), ss[len(ss)-1].told)
	}
}
