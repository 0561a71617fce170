package cluster

import (
	"time"
)

// Bytes is a size, in JSON a number with a unit: "128MiB" (KiB, MiB, GiB, or
// KB, MB, GB, or B).
type Bytes int64

// Duration is a length of time, in JSON as Go writes it: "1s", "250ms", "2m".
type Duration time.Duration
