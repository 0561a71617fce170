// Command burglar is package breach as a program: in a container it does what a
// tenant's native code would, and on the host it is, with "keep SECRET SOCKET",
// somebody who has something to lose.
package main

import (
	"fmt"
	"net"
	"os"

	"bulkhead/internal/confine"
	"bulkhead/test/breakin/breach"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 3 && args[0] == "keep" {
		return breach.Keep(args[1], args[2], ready)
	}
	o, err := breach.ReadOrders()
	if err != nil {
		return err
	}
	if o == nil {
		return fmt.Errorf("no orders: want $%s", breach.OrdersEnv)
	}
	if os.Getenv(breach.ConfinedEnv) != "" {
		if err := confine.Cell(); err != nil {
			return err
		}
	}
	breach.Carry(o, os.Stdout)
	return nil
}

// ready tells systemd (sd_notify(3)).
func ready() {
	c, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	if err == nil {
		c.Write([]byte("READY=1"))
		c.Close()
	}
}
