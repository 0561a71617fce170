// Package attack tries attacks on tokens and on the HTTP edge against a running
// site: a real proxy behind real sockets, real runners, and Node in real cells.
// Each attack is bytes on a socket, as no well-behaved client would write them,
// and after each a neighbour's request must be answered as ever. What happened
// is written to docs/attacks.md by
//
//	go test ./test/attack -update
//
// and every other run compares, so that the document is true.
package attack
