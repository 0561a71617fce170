package comeback

import (
	"testing"
	"time"
)

func TestClientsAreNotToldToComeBackTogetherNorTooEarly(t *testing.T) {
	for _, tt := range []struct {
		wait        time.Duration
		first, last int
	}{{time.Millisecond, 1, 2}, {time.Second, 1, 3}, {10 * time.Second, 10, 16}, {time.Hour, 3600, 3630}} {
		first, last := after(tt.wait, 0), after(tt.wait, 1)
		if first != tt.first || last != tt.last {
			t.Errorf("after %v: from %d to %d s, want %d to %d", tt.wait, first, last, tt.first, tt.last)
		}
		if got := After(tt.wait); got < tt.first || got > tt.last {
			t.Errorf("after %v: %d s", tt.wait, got)
		}
	}
}
