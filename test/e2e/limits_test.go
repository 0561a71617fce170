package e2e

import (
	"context"
	"strings"
	"testing"
	"time"
)

// lowerLimits tries limits of functions and of tokens: the lowest holds.
func lowerLimits(t *testing.T, m *machine) {
	c := m.tenant("lowered", `"limits": {"block": "300ms", "wall": "3s", "body": "64KiB", "rate": 0, "concurrency": 50}, "resources": {"memory": "512MiB", "cpu": 1, "pids": 512}`)
	const code = `module.exports = (ctx, req, res) => {
  switch (req.url) {
    case '/never': return;
    case '/loop': for (;;);
    default: req.resume().on('end', () => res.end('ok'));
  }
};`
	tests := []struct {
		name, function, token string // limits
		path                  string
		body                  int
		calls                 int // of which the last is looked at
		status                int
		limit, value, says    string
	}{
		{"a function's wall clock", "wall=400ms", "", "/never", 0, 1, 504, "limits.wall", "400ms", ""},
		{"a function cannot raise the tenant's wall clock", "wall=1h", "", "/never", 0, 1, 504, "limits.wall", "3s", ""},
		{"a function's block", "block=100ms", "", "/loop", 0, 1, 508, "limits.block", "100ms", ".js:4"},
		{"a function cannot raise the tenant's block", "block=2s", "", "/loop", 0, 1, 508, "limits.block", "300ms", ".js:4"},
		{"a function's body", "body=1KiB", "", "/", 2000, 1, 413, "limits.body", "1KiB", "limit of function"},
		{"a function cannot raise the tenant's body", "body=1MiB", "", "/", 70000, 1, 413, "limits.body", "64KiB", "limit of tenant"},
		{"a function's rate", "rate=0.01", "", "/", 0, 2, 429, "limits.rate", "0.01", "limit of function"},
		{"a token's wall clock, below the function's", "wall=2s", "wall=300ms", "/never", 0, 1, 504, "limits.wall", "300ms", ""},
		{"a token cannot raise the function's wall clock", "wall=350ms", "wall=2s", "/never", 0, 1, 504, "limits.wall", "350ms", ""},
		{"a token's body", "", "body=500B", "/", 600, 1, 413, "limits.body", "500B", "limit of the token"},
		{"a token's rate", "", "rate=0.01", "/", 0, 2, 429, "limits.rate", "0.01", "limit of the token"},
		{"what is below all limits passes", "wall=1s,body=2KiB", "wall=1s,body=1KiB,concurrency=1,rate=10", "/", 1000, 3, 200, "", "", "ok"},
	}
	for i, tt := range tests {
		name := "lower-" + string(rune('a'+i))
		var flags []string
		if tt.function != "" {
			flags = []string{"--limit", tt.function}
		}
		c.mustDeploy(name, code, flags...)
		caller := *c
		if tt.token != "" {
			caller.token = m.token("lowered", "--limit", tt.token)
		}
		var g got
		for range tt.calls {
			g = caller.do("POST", name+tt.path, strings.Repeat("x", tt.body))
		}
		if g.status != tt.status || g.Limit != tt.limit || g.Value != tt.value || !strings.Contains(g.body, tt.says) {
			t.Errorf("%s: got %v; want %d, %s %s, %q", tt.name, g, tt.status, tt.limit, tt.value, tt.says)
		}
	}
	concurrency(t, c, code)
}

// concurrency holds one request open, and sends another.
func concurrency(t *testing.T, c *tenant, code string) {
	const held = `let first = null; module.exports = (ctx, req, res) => { if (first === null) { first = res; res.write('x'); } else res.end('ok'); };`
	c.mustDeploy("one-at-a-time", held, "--limit", "concurrency=1")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	res, err := callers.Do(c.request(ctx, "GET", "one-at-a-time", nil)) // has its head, and waits
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if g := c.get("one-at-a-time"); g.status != 429 || g.Error != "too_many_in_flight" || !strings.Contains(g.Message, "function") {
		t.Errorf("a second request: %v", g)
	}
	c.mustDeploy("another", code)
	if g := c.get("another"); !g.ok("ok") {
		t.Errorf("another function: %v", g)
	}
}
