package runner

import (
	"errors"
	"fmt"
	"time"

	"bulkhead/cluster"
)

// A quota's windows are those of the calendar, in UTC; a week begins on Monday.
const (
	perSecond = iota
	perMinute
	perHour
	perDay
	perWeek
	perMonth
	windows
)

var windowNames = [windows]string{"second", "minute", "hour", "day", "week", "month"}

// quota is how many requests may come in a second, a minute …; 0: any number.
type quota [windows]int64

func quotaOf(q cluster.Quota) quota {
	return quota{perMinute: int64(q.Minute), perHour: int64(q.Hour), perDay: int64(q.Day), perWeek: int64(q.Week), perMonth: int64(q.Month)}
}

// windowEnd is when the window that t is in ends.
func windowEnd(window int, t time.Time) time.Time {
	t = t.UTC()
	year, month, day := t.Date()
	switch window {
	case perSecond:
		return t.Truncate(time.Second).Add(time.Second)
	case perMinute:
		return t.Truncate(time.Minute).Add(time.Minute)
	case perHour:
		return t.Truncate(time.Hour).Add(time.Hour)
	case perDay:
		return time.Date(year, month, day+1, 0, 0, 0, 0, time.UTC)
	case perWeek:
		return time.Date(year, month, day+7-(int(t.Weekday())+6)%7, 0, 0, 0, 0, time.UTC)
	default:
		return time.Date(year, month+1, 1, 0, 0, 0, 0, time.UTC)
	}
}

// used is what has come in each window that goes on.
type used [windows]struct {
	Until int64 `json:"until"` // seconds since 1970
	N     int64 `json:"n"`
}

// in is how many have come in the window of now.
func (u *used) in(window int, now time.Time) int64 {
	if now.Unix() >= u[window].Until {
		return 0
	}
	return u[window].N
}

// one counts a request.
func (u *used) one(now time.Time) {
	for w := range u {
		if now.Unix() >= u[w].Until {
			u[w].Until, u[w].N = windowEnd(w, now).Unix(), 0
		}
		u[w].N++
	}
}

// over returns the longest window in which a quota is used up, and when that
// ends.
func (u *used) over(q quota, now time.Time) (window int, end time.Time, over bool) {
	for w := windows - 1; w >= 0; w-- {
		if q[w] > 0 && u.in(w, now) >= q[w] {
			return w, time.Unix(u[w].Until, 0), true
		}
	}
	return 0, time.Time{}, false
}

// allowance is a quota, what it is counted by, and where it stands.
type allowance struct {
	*count
	quota
	whose string           // in words: what may have so many
	name  func(int) string // of the limit for a window
	where string           // it can be changed
}

// full refuses a request that comes when a quota is used up.
func (a allowance) full(now time.Time) *Refusal {
	w, end, over := a.used.over(a.quota, now)
	if !over {
		return nil
	}
	refusal := refuse(429, "quota_used", "%s has had the %d requests that it may have in this %s (%s in %s); the next begins at %s",
		a.whose, a.quota[w], windowNames[w], a.name(w), a.where, end.UTC().Format(time.RFC3339))
	refusal.RetryAfter = end.Sub(now)
	refusal.Limit, refusal.Value = a.name(w), fmt.Sprint(a.quota[w])
	refusal.policy(windowNames[w], a.quota[w], windowLength[w])
	return refusal
}

// windowLength is what a client is told, in seconds; a month is the longest.
var windowLength = [windows]int{1, 60, 3600, 86400, 7 * 86400, 31 * 86400}

// The claims that set quotas, by window (docs/tokens.md).
var (
	containerClaims = [windows]string{"ls", "lm", "lh", "ld", "lw", "lo"}
	tokenClaims     = [windows]string{"lts", "ltm", "lth", "ltd", "ltw", "lto"}
)

// allowed is the claim of one window.
type allowed int64

// UnmarshalJSON takes whole numbers from 1.
func (a *allowed) UnmarshalJSON(b []byte) error {
	var n int64
	if _, err := fmt.Sscanf(string(b), "%d", &n); err != nil || fmt.Sprint(n) != string(b) || n < 1 {
		return errors.New("want a whole number of requests, at least 1")
	}
	*a = allowed(n)
	return nil
}

// quotaClaims has the claims of a kind read into one quota.
func quotaClaims(names [windows]string, into *[windows]allowed, all map[string]any) {
	for w, name := range names {
		all[name] = &into[w]
	}
}

func quotaOfClaims(a [windows]allowed) (q quota) {
	for w := range a {
		q[w] = int64(a[w])
	}
	return q
}
