// Package scheduler decides which tenant's instances run on which host.
//
// Any number of schedulers run; one leads, elected in etcd ([Run]). The
// leader's loop (lead.go, loop.go) feeds what watches bring into a model of
// the cluster (model.go, apply.go, observe.go), plans for the tenants that something
// happened to (plan.go, arrange.go, place.go; pure: the model in, changes with reasons
// out) and writes the changes in batches fenced by its election key: a
// placement together with its rendered units, the applied spec, a status that
// says what became of the spec.
//
// Planning reserves on the model at once, so that the next tenant sees it; a
// write that fails or may have failed throws the model away and reads again.
// Nothing is planned while our own last write has not come back by the watch.
//
// A tenant's placements are sticky. One that can't stay (its host is written
// off, drained, or lost a label it needs) is replaced first and removed once
// the replacement is ready, after its route has said for a moment that it is
// leaving (route.go). An invalid spec changes nothing: the last good one,
// kept under cluster.AppliedPrefix, stays in force. A spec that is gone
// removes its instances, unless most specs are gone at once (brake.go); in the
// same way nothing is moved while most hosts are (loss.go).
//
// Functions are copied to the hosts that have their tenant (functions.go,
// deliver.go), without the leader holding any code for longer than a plan
// (read.go). Time alone, looked at in ticks, distrusts hosts that flap
// (trust.go), scales tenants by their requests in flight (load.go, scale.go)
// and evens out hosts that are used very differently (rebalance.go).
//
// When nothing else is to be planned, rollouts are (rollouts.go; decided by
// package rollout).
//
// Nothing but ticks and time.Now tells the time, and unless thousands of
// tenants are to be planned at once, the same model always makes the same plan.
package scheduler
