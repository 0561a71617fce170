// Package rollout takes hosts through patches, one after the other: it decides
// what to write next. It is pure: a picture of the cluster in ([Picture]), one
// decision with its reason out ([Decide]). A decision is one transaction, which
// also holds that the cycle it moves has not changed; the scheduler makes it
// under its fence, waits until the watch has shown it, and asks again.
//
// A host's way is its cycle (cycle.go has the one switch over its steps,
// os.go, lock.go and replace.go what each asks for). Who begins, and when, is
// decided by the rollout (run.go, hosts.go, begin.go; say.go has how it stands)
// or by the host itself, which asked through FleetLock (lock.go). stop.go has what
// happens when a gate fails.
//
// All that must outlive a scheduler is in keys. How long something has lasted is
// not: a leader counts only what it has seen itself ([Sights]), so one that takes
// over with another clock is never hasty, and late by no more than the gate.
package rollout
