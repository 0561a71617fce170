//go:build !breach

package main

import "bulkhead/internal/confine"

// harden gives up what the runner needs no more once it has its socket and its
// credential.
func harden() error { return confine.Runner(functions) }
