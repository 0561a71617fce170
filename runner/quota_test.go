package runner

import (
	"strings"
	"testing"
	"time"

	"bulkhead/cluster"
)

func rfc3339(text string) time.Time {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		panic(err)
	}
	return t
}

func TestWindowsAreThoseOfTheCalendarInUTC(t *testing.T) {
	now := rfc3339("2027-01-31T23:59:59+02:00") // a Sunday, 21:59:59 in UTC
	for w, want := range [windows]string{"2027-01-31T22:00:00Z", "2027-01-31T22:00:00Z", "2027-01-31T22:00:00Z", "2027-02-01T00:00:00Z", "2027-02-01T00:00:00Z", "2027-02-01T00:00:00Z"} {
		if got := windowEnd(w, now); !got.Equal(rfc3339(want)) {
			t.Errorf("the %s ends at %s, want %s", windowNames[w], got, want)
		}
	}
	monday := rfc3339("2027-02-01T00:00:00Z")
	if got := windowEnd(perWeek, monday); !got.Equal(monday.AddDate(0, 0, 7)) {
		t.Errorf("a week that begins ends at %s", got)
	}
	if got := windowEnd(perMonth, rfc3339("2026-12-31T12:00:00Z")); !got.Equal(rfc3339("2027-01-01T00:00:00Z")) {
		t.Errorf("December ends at %s", got)
	}
}

func TestQuotaEndsWithItsWindowAndTheLongestIsTold(t *testing.T) {
	var u used
	q := quota{perMinute: 2, perDay: 3}
	now := rfc3339("2026-11-28T23:58:10Z")
	for i, step := range []struct {
		after  time.Duration
		window int
		over   bool
	}{
		{0, 0, false}, {time.Second, 0, false}, {2 * time.Second, perMinute, true}, // two have come
		{50 * time.Second, 0, false}, {52 * time.Second, perDay, true}, // the next minute, the third
		{110 * time.Second, 0, false}, // the next day
	} {
		now := now.Add(step.after)
		w, end, over := u.over(q, now)
		if over != step.over || over && (w != step.window || !end.After(now)) {
			t.Fatalf("step %d: over %v in the %s, until %s", i, over, windowNames[w], end)
		}
		if !over {
			u.one(now)
		}
	}
}

func TestClaimsLimitTheTokenAndTheTenant(t *testing.T) {
	const code = `module.exports = (cb) => cb(null, 1);`
	tests := []struct {
		name   string
		limits cluster.Limits
		first  m // of a token that calls twice before
		claims m // of the one that is looked at
		status int
		says   string
	}{
		{"the token's own, used up", cluster.Limits{}, m{"jti": "a"}, m{"jti": "a", "lto": 2}, 200, ""}, // its own are counted where it has one
		{"the token's own", cluster.Limits{}, m{"jti": "a", "lto": 2}, m{"jti": "a", "lto": 2, "nbf": 1}, 429, `the token has had the 2 requests that it may have in this month (lto in its claims)`},
		{"another token's", cluster.Limits{}, m{"jti": "a", "lto": 2}, m{"jti": "b", "lto": 2}, 200, ""},
		{"the tenant's, by a token", cluster.Limits{}, m{"jti": "a"}, m{"jti": "b", "lo": 2}, 429, `tenant \"acme\" has had the 2 requests that it may have in this month (lo in the token's claims)`},
		{"more is left", cluster.Limits{}, m{"jti": "a"}, m{"jti": "b", "lo": 3, "lto": 1}, 200, ""},
		{"the tenant's, by its spec", cluster.Limits{Quota: cluster.Quota{Month: 2}}, m{}, m{}, 429, `(limits.quota.month in its spec)`},
		{"no number", cluster.Limits{}, m{}, m{"lh": "2"}, 401, `lh: want a whole number`},
		{"none at all", cluster.Limits{}, m{}, m{"ltm": 0}, 401, `ltm: want a whole number`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, tt.limits)
			r.deploy("f", code)
			for range 2 {
				if status, body, err := r.Do(t.Context(), r.request("f", r.sign(tt.first), "GET", ""), 1000); err != nil || status != 200 {
					t.Fatalf("before: %d %s %v", status, body, err)
				}
			}
			status, body, err := r.Do(t.Context(), r.request("f", r.sign(tt.claims), "GET", ""), 1000)
			if err != nil || status != tt.status || !strings.Contains(string(body), tt.says) {
				t.Fatalf("got %d %s %v, want %d with %s", status, body, err, tt.status, tt.says)
			}
		})
	}
}

func TestClientIsToldWhatHeHasComeUpAgainst(t *testing.T) {
	r := refuse(429, "rate_limited", "")
	r.RetryAfter = time.Second
	r.policy("rate", 50, 1)
	h := r.headers(0)
	if got := string(h.Get("ratelimit-policy")); got != `"rate";q=50;w=1` {
		t.Errorf("the policy is %s", got)
	}
	if got, after := string(h.Get("ratelimit")), string(h.Get("retry-after")); got != `"rate";r=0;t=`+after {
		t.Errorf("what is left is %s, to be asked again after %s", got, after)
	}
}
