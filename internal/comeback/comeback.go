// Package comeback says when those who are refused are to ask again.
package comeback

import (
	"math/rand/v2"
	"time"
)

// most is how far apart those who were refused together are told to come back.
const most = 30 * time.Second

// After is when to come back, in whole seconds (RFC 9110, section 10.2.3):
// never before wait has passed, and each client at another time, up to half as
// long again and a second later, so that those who were refused together do not
// come back together.
func After(wait time.Duration) int { return after(wait, rand.Float64()) }

// after is the same with a random number from 0 to 1.
func after(wait time.Duration, random float64) int {
	wait += time.Duration(random * float64(min(time.Second+wait/2, most)))
	return int((wait + time.Second - 1) / time.Second)
}
