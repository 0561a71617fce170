package runner

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"bulkhead/cluster"
	"bulkhead/internal/frames"
)

func TestLowestLimitHoldsAndIsToldByItsOwner(t *testing.T) {
	ms := func(n int) cluster.Duration { return cluster.Duration(time.Duration(n) * time.Millisecond) }
	const never, at = `module.exports = (cb) => {};`, `module.exports = (cb) => cb(null, 1);`
	tests := []struct {
		name   string
		tenant cluster.Limits
		own    *cluster.LowerLimits
		token  m
		code   string
		body   string
		calls  int // of which the last is looked at
		status int
		says   string
	}{
		{"the function's wall clock", cluster.Limits{Wall: ms(60000)}, &cluster.LowerLimits{Wall: ms(50)}, nil, never, "", 1, 504, `50ms`},
		{"the token's wall clock", cluster.Limits{Wall: ms(60000)}, &cluster.LowerLimits{Wall: ms(50000)}, m{"wall": "60ms"}, never, "", 1, 504, `60ms`},
		{"a token cannot raise the tenant's", cluster.Limits{Wall: ms(50)}, nil, m{"wall": "1h"}, never, "", 1, 504, `50ms`},
		{"the function's body", cluster.Limits{Body: 100}, &cluster.LowerLimits{Body: 10}, nil, at, "more than ten bytes", 1, 413, `limit of function \"f\" (limits.body)`},
		{"the token's body", cluster.Limits{Body: 100}, &cluster.LowerLimits{Body: 50}, m{"body": "10B"}, at, "more than ten bytes", 1, 413, `limit of the token (limits.body)`},
		{"the tenant's body", cluster.Limits{Body: 10}, &cluster.LowerLimits{Body: 50}, nil, at, "more than ten bytes", 1, 413, `limit of tenant \"acme\" (limits.body)`},
		{"the function's rate", cluster.Limits{Rate: 1000}, &cluster.LowerLimits{Rate: 0.001}, nil, at, "", 2, 429, `limit of function \"f\" (limits.rate in `},
		{"the token's rate", cluster.Limits{Rate: 1000}, nil, m{"rate": 0.001}, at, "", 2, 429, `limit of the token (limits.rate in `},
		{"the tenant's rate", cluster.Limits{Rate: 0.001}, nil, m{"rate": 10}, at, "", 2, 429, `limit of tenant \"acme\" (limits.rate in `},
		{"a token with a limit that no request has", cluster.Limits{}, nil, m{"block": "1s"}, at, "", 1, 401, `limits`},
		{"a token with a limit that is none", cluster.Limits{}, nil, m{"wal": "1s"}, at, "", 1, 401, `limits`},
		{"a token with a limit below 0", cluster.Limits{}, nil, m{"rate": -1}, at, "", 1, 401, `limits`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, tt.tenant)
			r.deployWith("f", tt.code, tt.own)
			if tt.token != nil {
				r.token = r.sign(m{"jti": "t1", "limits": tt.token})
			}
			status, body := 0, []byte(nil)
			for range tt.calls {
				var err error
				if status, body, err = r.Do(t.Context(), r.request("f", r.token, "POST", tt.body), 1000); err != nil {
					t.Fatal(err)
				}
			}
			if status != tt.status || !strings.Contains(string(body), tt.says) {
				t.Fatalf("got %d %s, want %d with %s", status, body, tt.status, tt.says)
			}
		})
	}
}

func TestNewLimitsOfTheWatchdogHoldForTheNextRequest(t *testing.T) {
	r := newRig(t, cluster.Limits{Block: cluster.Duration(time.Minute)})
	r.deploy("f", slow)
	if o := <-r.ask("f", "GET", "quick"); o.status != 200 {
		t.Fatalf("got %+v", o)
	}
	next := r.config
	next.Limits.Block = cluster.Duration(200 * time.Millisecond)
	if status, body := r.reload(next); status != 200 {
		t.Fatalf("reload: %d %s", status, body)
	}
	for { // a proxy asks again, too, when the process that goes refuses
		o := <-r.ask("f", "GET", "loop")
		if errors.Is(o.err, frames.ErrRefused) {
			continue
		}
		if o.status != 508 || o.json.Value != "200ms" {
			t.Fatalf("got %+v", o)
		}
		return
	}
}

func TestConcurrencyIsCountedPerFunctionAndPerToken(t *testing.T) {
	r := newRig(t, cluster.Limits{})
	r.deployWith("f", slow, &cluster.LowerLimits{Concurrency: 1})
	r.deploy("g", slow)
	first := r.ask("f", "GET", "slow")
	r.awaitCalls("f", 1)
	if o := <-r.ask("f", "GET", "quick"); o.status != 429 || !strings.Contains(o.json.Message, `function "f"`) {
		t.Fatalf("a second of the function: %+v", o)
	}
	r.token = r.sign(m{"jti": "t1", "limits": m{"concurrency": 1}})
	second := r.ask("g", "GET", "slow")
	r.awaitCalls("g", 1)
	r.token = r.sign(m{"jti": "t1", "limits": m{"concurrency": 1}, "nbf": 1}) // another token of the same name
	if o := <-r.ask("g", "GET", "quick"); o.status != 429 || !strings.Contains(o.json.Message, "the token") {
		t.Fatalf("a second with the token: %+v", o)
	}
	r.token = r.sign(m{"limits": m{"concurrency": 1}})
	if o := <-r.ask("g", "GET", "go"); o.status != 200 {
		t.Fatalf("with another token: %+v", o)
	}
	if o := <-second; o.status != 200 {
		t.Fatalf("the token's first: %+v", o)
	}
	r.deployWith("f", slow, &cluster.LowerLimits{Concurrency: 2})
	if o := <-r.ask("f", "GET", "quick"); o.status != 200 {
		t.Fatalf("a second of the function, when it may have two: %+v", o)
	}
	select {
	case o := <-first:
		t.Fatalf("the first: %+v", o)
	default:
	}
}

func TestCountsAreBounded(t *testing.T) {
	n := counts{own: map[string]*count{}}
	busy := n.get("busy", 1, now)
	busy.calls = 1
	for i := range 2 * maxCounts {
		n.get(fmt.Sprint(i), 1, now.Add(time.Duration(i)))
	}
	if len(n.own) > maxCounts || n.own["busy"] != busy {
		t.Fatalf("%d are counted, and the one with a request in flight: %v", len(n.own), n.own["busy"])
	}
}

func TestFunctionIsToldItsDeadlineAndTheLimitItCameFrom(t *testing.T) {
	r := newRig(t, cluster.Limits{Wall: cluster.Duration(time.Minute)})
	c := &call{r: r.runner, started: now, grant: &Grant{Claims: []byte("{}")}, limits: cluster.Limits{Wall: cluster.Duration(5 * time.Second)}}
	raw, refusal := c.encode(r.request("f", r.token, "GET", ""), true)
	if refusal != nil {
		t.Fatal(refusal)
	}
	req, err := frames.ParseRequest(raw[frames.HeaderSize:])
	if err != nil {
		t.Fatal(err)
	}
	if got := req.Fields.Get(frames.FieldWall); string(got) != "\x88\x13\x00\x00\x00\x00\x00\x00" {
		t.Errorf("the wall limit is %x", got)
	}
	if req.Fields.Get(frames.FieldDeadline) == nil {
		t.Error("there is no deadline")
	}
}
