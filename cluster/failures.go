package cluster

// Failures is how many requests the platform has failed at a host's proxy in a
// rollout: the host's own count ([Load]), which outlives reboots, is followed.
type Failures struct {
	Requests int64 `json:"requests"` // since the rollout began
	Count    int64 `json:"count"`    // the host's own, as last known
}

// maxFailures bounds what is believed of a host, so that sums stay sums.
const maxFailures = 1 << 40

// Follow takes in what the host counts now. When that is less than before, the
// host has lost its count and has begun anew: all of it is new.
func (f Failures) Follow(count int64) Failures {
	next := f.From(count)
	more := next.Count - f.Count
	if more < 0 {
		more = next.Count
	}
	next.Requests = min(f.Requests+more, maxFailures)
	return next
}

// From is Follow from now on: what the host counted meanwhile is not included.
func (f Failures) From(count int64) Failures {
	f.Count = min(max(count, 0), maxFailures)
	return f
}
