package runner

import (
	"strconv"

	"bulkhead/cluster"
	"bulkhead/internal/frames"
)

// admit decides whether the request may go on, and counts it when it may. The
// record is nil for code that comes with the request.
func (c *call) admit(req frames.Request) (record *cluster.Function, refusal *Refusal) {
	r := c.r
	token, _ := bearer(req)
	if c.grant, refusal = r.gate.Check(token, c.started); refusal != nil {
		return nil, refusal
	}
	if refusal = c.grant.Allows(c.function); refusal != nil {
		return nil, refusal
	}
	var missing *Refusal
	var own *cluster.LowerLimits
	if c.function != "" {
		if record, missing = r.functions.get(r.config.Tenant, c.function); record != nil {
			own = record.Limits
		}
	}
	c.limits = r.config.Limits.Under(own).Under(c.grant.limits)
	if refusal = c.checkLength(req); refusal != nil && missing == nil {
		return nil, refusal
	}
	if refusal = r.counts.take(c, own, token); refusal != nil {
		return nil, refusal
	}
	if most := r.config.Limits.Concurrency; most > 0 && r.calls >= most+min(most, mostInLine) {
		return nil, c.bounds[0].refusal("as many wait")
	}
	return record, missing
}

func (c *call) checkLength(req frames.Request) *Refusal {
	length, err := strconv.ParseInt(string(req.Headers.Get("content-length")), 10, 64)
	if err != nil {
		length = int64(c.received)
	}
	return c.tooLarge(length)
}

// tooLarge refuses a body of n bytes when that is over its limit.
func (c *call) tooLarge(n int64) *Refusal {
	limit, name, status := int64(c.limits.Body), "body", 413
	if c.function == "" {
		limit, name, status = int64(c.limits.Code), "code", 400
	}
	if limit <= 0 || n <= limit {
		return nil
	}
	whose := "tenant " + quoted(c.r.config.Tenant)
	switch {
	case limit == int64(c.r.config.Limits.Body) || name == "code":
	case c.grant.limits != nil && limit == int64(c.grant.limits.Body):
		whose = "the token"
	default:
		whose = "function " + quoted(c.function)
	}
	refusal := refuse(status, name+"_too_large", "the %s has more than %d bytes, the limit of %s (limits.%s)", name, limit, whose, name)
	refusal.Limit, refusal.Value = "limits."+name, cluster.Bytes(limit).String()
	return refusal
}
