package runner

import (
	"fmt"
	"math"
	"time"

	"golang.org/x/time/rate"

	"bulkhead/cluster"
)

// counts holds requests to limits.rate and limits.concurrency: the tenant's,
// and those that a function or a token has of its own.
type counts struct {
	tenant count
	own    map[string]*count
}

// count is the requests of one tenant, function or token.
type count struct {
	calls   int // in flight
	limiter *rate.Limiter
	used    time.Time
}

// maxCounts is how many functions and tokens with limits of their own are
// counted. Beyond that one that has nothing in flight is forgotten, and begins
// anew with its next request.
const maxCounts = 4096

// bound is a limit and whose it is, in words.
type bound struct {
	*count
	rate        float64
	concurrency int
	whose       string
}

// configure puts the tenant's rate in force.
func (n *counts) configure(limits cluster.Limits) {
	n.tenant.setRate(limits.Rate)
	if n.own == nil {
		n.own = map[string]*count{}
	}
}

// setRate puts a rate in force and keeps what has been used of another. A
// second's worth may come at once.
func (n *count) setRate(perSecond float64) {
	if perSecond <= 0 {
		n.limiter = nil
		return
	}
	limit, burst := rate.Limit(perSecond), max(1, int(min(perSecond, math.MaxInt32)))
	switch {
	case n.limiter == nil:
		n.limiter = rate.NewLimiter(limit, burst)
	case n.limiter.Limit() != limit:
		n.limiter.SetLimit(limit)
		n.limiter.SetBurst(burst)
	}
}

// take counts a request against everything that it is part of, or against
// nothing when one of them is full. What the call counts in flight it finds in
// its counts.
func (n *counts) take(c *call, own *cluster.LowerLimits, token []byte) *Refusal {
	r := c.r
	n.tenant.calls = r.calls
	bounds := append(make([]bound, 0, 3), bound{&n.tenant, r.config.Limits.Rate, r.config.Limits.Concurrency, "tenant " + quoted(r.config.Tenant)})
	if own != nil && (own.Rate > 0 || own.Concurrency > 0) {
		bounds = append(bounds, bound{n.get("f:"+c.function, own.Rate, c.started), own.Rate, own.Concurrency, "function " + quoted(c.function)})
	}
	if l := c.grant.limits; l != nil && (l.Rate > 0 || l.Concurrency > 0) {
		bounds = append(bounds, bound{n.get("t:"+c.grant.identity(token), l.Rate, c.started), l.Rate, l.Concurrency, "the token"})
	}
	for _, b := range bounds {
		if refusal := b.full(c.started); refusal != nil {
			return refusal
		}
	}
	for i, b := range bounds {
		if b.limiter != nil {
			b.limiter.AllowN(c.started, 1)
		}
		if i > 0 {
			c.counts = append(c.counts, b.count)
		}
	}
	return nil
}

// full refuses a request that comes when there are too many.
func (b bound) full(now time.Time) *Refusal {
	if b.concurrency > 0 && b.calls >= b.concurrency {
		refusal := refuse(429, "too_many_in_flight", "%d requests are in flight, the limit of %s (limits.concurrency)", b.calls, b.whose)
		refusal.RetryAfter = time.Second
		refusal.Limit, refusal.Value = "limits.concurrency", fmt.Sprint(b.concurrency)
		return refusal
	}
	if b.limiter != nil && b.limiter.TokensAt(now) < 1 {
		refusal := refuse(429, "rate_limited", "more than %g requests a second, the limit of %s (limits.rate)", b.rate, b.whose)
		refusal.RetryAfter = time.Duration(min(float64(time.Second)/b.rate, float64(24*time.Hour)))
		refusal.Limit, refusal.Value = "limits.rate", fmt.Sprint(b.rate)
		return refusal
	}
	return nil
}

// get returns the count of a function or token, with its rate in force.
func (n *counts) get(key string, perSecond float64, now time.Time) *count {
	one := n.own[key]
	if one == nil {
		if len(n.own) >= maxCounts {
			n.forgetOne()
		}
		one = &count{}
		n.own[key] = one
	}
	one.used = now
	one.setRate(perSecond)
	return one
}

// forgetOne drops, of a few at random, the one that was used longest ago. What
// has requests in flight stays: those are bounded themselves.
func (n *counts) forgetOne() {
	oldest, looked := "", 0
	for key, one := range n.own {
		if one.calls > 0 {
			continue
		}
		if oldest == "" || one.used.Before(n.own[oldest].used) {
			oldest = key
		}
		if looked++; looked == 16 {
			break
		}
	}
	delete(n.own, oldest)
}
