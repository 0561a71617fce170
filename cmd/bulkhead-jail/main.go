// Command bulkhead-jail becomes a jail and then the service in it: package
// agent/supervisor, which starts it where systemd is not PID 1. It is a binary
// of its own because a tenant's first request waits for it, and the
// operator's binary, with etcd and Docker in it, takes four times as long to
// start. It is of no use to people.
package main

import (
	"fmt"
	"os"

	"bulkhead/agent/supervisor"
)

func main() {
	supervisor.MaybeJail()
	fmt.Fprintln(os.Stderr, "bulkhead-jail is started by bulkhead's supervisor, not by hand")
	os.Exit(2)
}
