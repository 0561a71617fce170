package runner

import (
	"fmt"
	"math"
	"time"

	"golang.org/x/time/rate"

	"bulkhead/cluster"
)

// counts holds requests to limits.rate, limits.concurrency and quotas: the
// tenant's, and those that a function or a token has of its own.
type counts struct {
	tenant count
	own    map[string]*count
}

// count is the requests of one tenant, function or token.
type count struct {
	calls   int // in flight
	limiter *rate.Limiter
	used    used
	last    time.Time
}

// maxCounts is how many functions and tokens with limits of their own are
// counted. Beyond that one that has nothing in flight is forgotten, and begins
// anew with its next request.
const maxCounts = 4096

// bound is a limit, whose it is, and where he finds it, in words.
type bound struct {
	*count
	rate        float64
	concurrency int
	whose       string
	where       string
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

// take counts a request against the rates and quotas of everything that it is
// part of, or against nothing when one of them is used up. What bounds how many
// are in flight the call finds in its bounds.
func (n *counts) take(c *call, own *cluster.LowerLimits, token []byte) *Refusal {
	bounds := n.bounds(c, own, token)
	for _, b := range bounds {
		if refusal := b.tooFast(c.started); refusal != nil {
			return refusal
		}
	}
	tokens := n.tokens(c, token)
	for _, a := range n.allowances(c, tokens) {
		if refusal := a.full(c.started); refusal != nil {
			return refusal
		}
	}
	for _, b := range bounds {
		if b.limiter != nil {
			b.limiter.AllowN(c.started, 1)
		}
	}
	n.tenant.used.one(c.started)
	if tokens != nil {
		tokens.used.one(c.started)
	}
	c.bounds = bounds
	return nil
}

// bounds are the tenant's, and those of a function and a token that have some.
func (n *counts) bounds(c *call, own *cluster.LowerLimits, token []byte) []bound {
	tenant, limits := "tenant "+quoted(c.r.config.Tenant), c.r.config.Limits
	bounds := append(make([]bound, 0, 3), bound{&n.tenant, limits.Rate, limits.Concurrency, tenant, "its spec"})
	if own != nil && (own.Rate > 0 || own.Concurrency > 0) {
		bounds = append(bounds, bound{n.get("f:"+c.function, own.Rate, c.started), own.Rate, own.Concurrency, "function " + quoted(c.function), "its record"})
	}
	if l := c.grant.limits; l != nil && (l.Rate > 0 || l.Concurrency > 0) {
		bounds = append(bounds, bound{n.get("t:"+c.grant.identity(token), l.Rate, c.started), l.Rate, l.Concurrency, "the token", "its claims"})
	}
	return bounds
}

// tokens is the count of a token's requests if it has quotas; else nil.
func (n *counts) tokens(c *call, token []byte) *count {
	if c.grant.own == (quota{}) {
		return nil
	}
	return n.get("q:"+c.grant.identity(token), 0, c.started)
}

// allowances are the quotas that a request comes under.
func (n *counts) allowances(c *call, tokens *count) []allowance {
	var all []allowance
	tenant := "tenant " + quoted(c.r.config.Tenant)
	if q := c.r.config.Limits.Quota; q != (cluster.Quota{}) {
		all = append(all, allowance{&n.tenant, quotaOf(q), tenant, func(w int) string { return "limits.quota." + windowNames[w] }, "its spec"})
	}
	if c.grant.container != (quota{}) {
		all = append(all, allowance{&n.tenant, c.grant.container, tenant, func(w int) string { return containerClaims[w] }, "the token's claims"})
	}
	if tokens != nil {
		all = append(all, allowance{tokens, c.grant.own, "the token", func(w int) string { return tokenClaims[w] }, "its claims"})
	}
	return all
}

// full returns what has as many of its requests in flight as may be; nil: a
// call may start.
func (c *call) full() *bound {
	for i, b := range c.bounds {
		if b.concurrency > 0 && b.calls >= b.concurrency {
			return &c.bounds[i]
		}
	}
	return nil
}

// refusal says so, and what else was in the way.
func (b bound) refusal(and string) *Refusal {
	refusal := refuse(429, "too_many_in_flight", "%d requests are in flight, the limit of %s (limits.concurrency in %s), and %s", b.calls, b.whose, b.where, and)
	refusal.RetryAfter = time.Second
	refusal.Limit, refusal.Value = "limits.concurrency", fmt.Sprint(b.concurrency)
	return refusal
}

// late refuses a request whose time has passed while it waited in line.
func (b bound) late(wall time.Duration) *Refusal {
	refusal := refuse(504, "wall_limit", "the request waited for %s, its wall limit (limits.wall), because %d of %s were in flight, and was not begun", wall, b.calls, b.whose)
	refusal.Limit, refusal.Value, refusal.Measured = "limits.wall", wall.String(), wall.String()
	return refusal
}

// tooFast refuses a request that comes when the rate is used up.
func (b bound) tooFast(now time.Time) *Refusal {
	if b.limiter == nil || b.limiter.TokensAt(now) >= 1 {
		return nil
	}
	refusal := refuse(429, "rate_limited", "more than %g requests a second, the limit of %s (limits.rate in %s)", b.rate, b.whose, b.where)
	refusal.RetryAfter = time.Duration(min(float64(time.Second)/b.rate, float64(24*time.Hour)))
	refusal.Limit, refusal.Value = "limits.rate", fmt.Sprint(b.rate)
	refusal.policy("rate", int64(max(b.rate, 1)), int(math.Ceil(max(1, 1/b.rate))))
	return refusal
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
	one.last = now
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
		if oldest == "" || one.last.Before(n.own[oldest].last) {
			oldest = key
		}
		if looked++; looked == 16 {
			break
		}
	}
	delete(n.own, oldest)
}
