package proxy

import (
	"math/rand/v2"
	"time"
)

// choose returns the best of a tenant's targets, any but not if there is
// another. Nil: none lets a request through now; wait is after which time one
// may, 0 if there is no such one.
func (tn *tenant) choose(not *target) (best *target, wait time.Duration) {
	if tn == nil {
		return nil, 0
	}
	for rank, choices := range tn.choices {
		if len(choices) == 0 || rank == int(failed) && tn.starting {
			continue
		}
		best, rest := choose(choices, func(tg *target) bool { return tg != not })
		if best != nil {
			return best, 0
		}
		wait = sooner(wait, rest)
	}
	if not != nil {
		if _, still := tn.targets()[not.id]; still {
			if rest := not.wait(); rest > 0 {
				return nil, sooner(wait, rest)
			}
			return not, 0
		}
	}
	return nil, wait
}

// choose returns one of the targets that may be taken and let requests
// through: of those on this host the least busy, of others the less busy of
// two at random, for many proxies that all sent to the least busy would all
// send to the same.
func choose(targets []*target, may func(*target) bool) (best *target, wait time.Duration) {
	var one, two *target // two that were drawn from those elsewhere
	drawn := 0
	for _, tg := range targets {
		if !may(tg) {
			continue
		}
		if rest := tg.wait(); rest > 0 {
			wait = sooner(wait, rest)
			continue
		}
		if tg.peer == nil {
			if best == nil || tg.load() < best.load() {
				best = tg
			}
			continue
		}
		// A sample of two from a list of unknown length.
		switch drawn++; {
		case drawn == 1:
			one = tg
		case drawn == 2:
			two = tg
		default:
			switch rand.IntN(drawn) {
			case 0:
				one = tg
			case 1:
				two = tg
			}
		}
	}
	if best == nil && one != nil {
		best = one
		if two != nil && (two.load() < one.load() || two.load() == one.load() && rand.IntN(2) == 0) {
			best = two
		}
	}
	return best, wait
}

// sooner is the shorter of two times, of which 0 is none.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}
