//go:build race

package cell

// raceDetector tells whether the tests run under the race detector. Then the
// cell that they start does, too; it is no static binary then, so no container
// can hold it.
const raceDetector = true

func init() { buildFlags = append(buildFlags, "-race") }
