package cluster

// Failures is how many requests the platform has failed at a host's proxy since
// a rollout began: the host's own count ([Load]) is followed, which outlives
// reboots.
type Failures struct {
	Requests int64 `json:"requests"` // since the rollout began
	Count    int64 `json:"count"`    // the host's own, as last known
}

// maxFailures bounds what is believed of a host, so that sums stay sums.
const maxFailures = 1 << 40

// Follow takes in what the host counts now. When that is less than before, the
// host has lost its count and has begun anew: all of it is new. What can be no
// count is passed over.
func (f Failures) Follow(count int64) Failures {
	if count < 0 || count > maxFailures {
		return f
	}
	more := count - f.Count
	if more < 0 {
		more = count
	}
	return Failures{Requests: min(f.Requests+more, maxFailures), Count: count}
}
