package scheduler

import (
	"fmt"
	"math"
	"slices"
	"time"

	"bulkhead/cluster"
)

// Scaling follows Knative's autoscaler: the average of requests in flight over
// a stable window decides, and that over a short one when it shows a burst;
// until the burst has been over for a stable window, nothing is scaled down.
const (
	stableWindow = 60 * time.Second
	panicWindow  = 6 * time.Second
	// panicFactor of what those that serve are meant to take is a burst.
	panicFactor = 2
)

// demand is how busy a tenant was lately.
type demand struct {
	samples  []sample  // oldest first, within the stable window
	panicked time.Time // when there was last a burst; zero: none
	fewer    time.Time // since when fewer instances would do; zero: they wouldn't
}

// sample is how many requests of a tenant were in flight at a time.
type sample struct {
	at       time.Time
	inFlight float64
}

// add takes a sample and forgets those that are too old.
func (d *demand) add(at time.Time, inFlight float64) {
	if last := len(d.samples) - 1; last >= 0 && d.samples[last].at.Equal(at) {
		d.samples = d.samples[:last]
	}
	d.samples = append(slices.DeleteFunc(d.samples, func(s sample) bool { return at.Sub(s.at) >= stableWindow }), sample{at, inFlight})
}

// average is that of the samples within a window, or of as many as there are.
func (d *demand) average(now time.Time, window time.Duration) float64 {
	sum, n := 0.0, 0
	for _, s := range d.samples {
		if now.Sub(s.at) < window {
			sum, n = sum+s.inFlight, n+1
		}
	}
	return sum / float64(max(n, 1))
}

// idle says that there was nothing to do for a stable window.
func (d *demand) idle() bool {
	return !slices.ContainsFunc(d.samples, func(s sample) bool { return s.inFlight > 0 })
}

// scale decides how many instances a tenant is to have that has so many, of
// which some serve, and why when that is another number.
func (d *demand) scale(now time.Time, has, serving int, r cluster.Replicas) (want int, why string) {
	each := float64(max(r.Concurrency, 1))
	stable, burst := d.average(now, stableWindow), d.average(now, panicWindow)
	if burst >= panicFactor*each*float64(max(serving, 1)) {
		d.panicked = now
	}
	if !d.panicked.IsZero() && now.Sub(d.panicked) < stableWindow {
		d.fewer = time.Time{}
		want = max(has, serving, int(math.Ceil(burst/each)))
		return d.bounded(want, has, r, burst, "within "+shortly(panicWindow))
	}
	d.panicked = time.Time{}
	switch want = int(math.Ceil(stable / each)); {
	case want >= has:
		d.fewer = time.Time{}
	case d.fewer.IsZero():
		d.fewer, want = now, has
	case now.Sub(d.fewer) < stableWindow:
		want = has
	default: // one at a time
		d.fewer, want = now, has-1
	}
	return d.bounded(want, has, r, stable, "within "+shortly(stableWindow))
}

func (d *demand) bounded(want, has int, r cluster.Replicas, inFlight float64, when string) (int, string) {
	want = min(max(want, least(r)), max(r.Max, least(r)))
	if want == has {
		return has, ""
	}
	return want, fmt.Sprintf("%d instances: %.3g in flight on average %s, %d each", want, inFlight, when, r.Concurrency)
}

// least is the number of instances that a tenant has in any case: one that
// may be dormant, at least.
func least(r cluster.Replicas) int { return max(r.Min, 1) }
