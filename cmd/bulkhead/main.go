// Command bulkhead is the operator's tool: it registers tenants, deploys and
// calls their functions and shows how the cluster is. All it does in the
// cluster is writing and reading keys in etcd (package cluster names them) and
// sending requests to a proxy, so etcdctl and curl can do it too.
//
// Every verb is a file; verbs.go lists them. docs/cli.md is the manual.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"bulkhead/agent/supervisor"
)

func main() {
	supervisor.MaybeJail()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], stdio{os.Stdin, os.Stdout, os.Stderr})
	stop()
	os.Exit(code)
}
