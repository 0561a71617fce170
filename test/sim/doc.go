// Package sim runs the scheduler, with the watches, writes and leases that it
// really uses, against an etcd in memory and hosts that are simulated, in a
// testing/synctest bubble where hours pass in seconds. From a seed it decides
// what goes wrong and when: hosts lose power, agents die, networks part,
// schedulers are killed or paused, etcd goes away, compacts its history or
// loses answers, and meanwhile an operator registers, changes and removes
// tenants, deploys functions and drains hosts.
//
// What must always hold is checked at every commit, before anybody sees it
// (checker.go); what must hold in the end, when all that was broken has been
// mended (end.go). A seed decides the same faults each time; which of two
// processes is faster is up to the machine, so a failure may take some tries
// to come again.
//
//	go test ./test/sim -sim.seed 7 -sim.hours 3 -sim.hosts 20 -v
package sim
