package cells

import "time"

// burning is what is known of a cell's use of its CPU.
type burning struct {
	used   time.Duration // since it was made, when last looked
	at     time.Time
	share  float64 // of its quota, lately: each look weighs as much as all before it
	behind bool    // whoever else wakes goes first
}

// A cell that uses more than half of its quota goes behind, two looks after it
// began; one that uses less than a quarter comes back. The second also frees one
// that got nothing because the others took all there was: whatever they do, it
// is as heavy as any for two of five looks.
const (
	burnsFrom  = 0.5
	burnsUntil = 0.25
)

// look returns what is known after a look: so much of a core's time was used by
// now, of a quota of so many cores; 0: it has none.
func (b burning) look(used time.Duration, now time.Time, quota float64) burning {
	passed := now.Sub(b.at).Seconds()
	if !b.at.IsZero() && passed > 0 && quota > 0 {
		b.share = (b.share + (used-b.used).Seconds()/passed/quota) / 2
	}
	switch {
	case b.share > burnsFrom:
		b.behind = true
	case b.share < burnsUntil:
		b.behind = false
	}
	b.used, b.at = used, now
	return b
}

// due says whether it is time for another look: one that used nothing since the
// last, as most on a host do, is left alone for longer.
func (b burning) due(now time.Time) bool {
	return b.share > burnsUntil/16 || now.Sub(b.at) >= restingLook
}
