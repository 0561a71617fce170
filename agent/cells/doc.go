// Package cells keeps a host's cells: containers that are made blank and
// booted ahead of need, become one instance's for the rest of their lives, and
// are removed when it goes to sleep or goes for good. A cell that has been an
// instance's is never another's.
//
//	engine.go  what runs containers, and its words
//	cell.go    Cell: what is known of one, kept in its directory
//	cells.go   Cells: all of this host's, and what the engine says of them
//	make.go    a blank cell, from its directory to the first spare process
//	take.go    a cell becomes an instance's
//	queue.go   who waits for one when none is blank
//	pool.go    how many blank ones to keep                          (pure)
//	keep.go    keeping so many
//	cgroup.go  limits and the freezer, written straight to the cgroup
//	tree.go    the cell's directory: a file system of its own
//
// Docker's create and start take 200 ms, its update 20: none of them is on
// the way of a request that wakes an instance, as long as there are blank
// cells.
package cells
