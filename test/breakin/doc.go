// Package breakin breaks into a runner and into a container of a real host, and
// tries from there what package breach knows. Everything is as on any host with
// systemd: "bulkhead up" runs two tenants, one of whom has something to lose,
// but that the runner was built with a hole.
//
// Then each layer is taken away by itself, and all is tried again: an attack
// that gets through has had no other layer before it. The tables in
// docs/ablation.md are written by "go test ./test/breakin -update"; every other
// run fails when something else happens, or when anything gets through with all
// layers in force.
package breakin
