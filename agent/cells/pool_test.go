package cells

import (
	"testing"
	"time"
)

func TestPoolGrowsWithTheRateOfUse(t *testing.T) {
	now := time.Date(2026, 11, 22, 13, 0, 0, 0, time.UTC)
	ago := func(n int, each time.Duration) (all []time.Time) {
		for i := range n {
			all = append([]time.Time{now.Add(-time.Duration(i) * each)}, all...)
		}
		return all
	}
	for _, c := range []struct {
		sentence string
		pool     Pool
		taken    []time.Time
		want     int
	}{
		{"without use it is as small as may be", Pool{2, 16}, nil, 2},
		{"one use grows it by one", Pool{2, 16}, ago(1, 0), 3},
		{"five a second need those of two seconds more", Pool{2, 16}, ago(50, 200*time.Millisecond), 12},
		{"it never outgrows its bound", Pool{2, 16}, ago(1000, time.Millisecond), 16},
		{"what was long ago does not count", Pool{2, 16}, []time.Time{now.Add(-time.Minute), now.Add(-window)}, 2},
		{"a pool of none stays none, whatever is used", Pool{}, ago(100, time.Millisecond), 0},
	} {
		if got := c.pool.target(c.taken, now); got != c.want {
			t.Errorf("%s: got %d, want %d", c.sentence, got, c.want)
		}
	}
	if kept := since([]time.Time{now.Add(-time.Hour), now.Add(-time.Second), now}, now); len(kept) != 2 {
		t.Errorf("%d uses are remembered, want the 2 of the last seconds", len(kept))
	}
}
