package cells

import (
	"testing"
	"time"
)

// looks has a cell with half a core looked at every 250 ms, having used such a
// share of its quota each time, and returns after how many looks it was behind,
// or no longer.
func looks(t *testing.T, b *burning, share float64, behind bool) int {
	t.Helper()
	for n := range 20 {
		if b.behind == behind {
			return n
		}
		used := b.used + time.Duration(share*0.5*float64(lookEvery))
		*b = b.look(used, b.at.Add(lookEvery), 0.5)
	}
	t.Fatalf("with %.0f %% of its quota, behind stays %v", 100*share, !behind)
	return 0
}

func TestWhoBurnsGoesBehindSoonAndComesBack(t *testing.T) {
	b := burning{}.look(3*time.Second, time.Now(), 0.5)
	if b.behind {
		t.Fatal("what a cell used before it was ever looked at counts")
	}
	if n := looks(t, &b, 1, true); n > 2 {
		t.Errorf("it takes %d looks until who uses all of his quota is behind", n)
	}
	// Nothing is left for it, or it is calm: that looks the same.
	if n := looks(t, &b, 0, false); n > 3 {
		t.Errorf("it takes %d looks until who gets nothing is as heavy as any again", n)
	}
}

func TestWhoUsesLittleIsNeverBehind(t *testing.T) {
	b := burning{}.look(0, time.Now(), 0.5)
	for range 100 {
		b = b.look(b.used+time.Duration(0.45*0.5*float64(lookEvery)), b.at.Add(lookEvery), 0.5)
		if b.behind {
			t.Fatal("a cell that uses less than half of its quota is behind")
		}
	}
	b = b.look(b.used+time.Second, b.at.Add(lookEvery), 0)
	if b.behind {
		t.Error("a cell without a quota is behind")
	}
}

func TestOneAtRestIsLeftAlone(t *testing.T) {
	b := burning{}.look(time.Second, time.Now(), 0.5)
	if b.due(b.at.Add(lookEvery)) || !b.due(b.at.Add(restingLook)) {
		t.Error("a cell that did nothing is looked at as often as one that works, or never")
	}
	if b = b.look(b.used+lookEvery/4, b.at.Add(lookEvery), 0.5); !b.due(b.at.Add(lookEvery)) {
		t.Error("a cell that works is not looked at")
	}
}
