//go:build race

package cell

// raceDetector tells whether the tests run under the race detector. Then the
// cell that they start outside containers does, too.
const raceDetector = true
