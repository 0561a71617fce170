package main

import (
	"context"
	"errors"
	"log/slog"
	"net"

	"bulkhead/agent/fleetlock"
)

// machineID is where a machine says which it is: machine-id(5).
const machineID = "/etc/machine-id"

// answerUpdates answers this machine's own updates until ctx ends. Where that
// can't be, they get no turn, which is the safe side: tenants are served all
// the same.
func answerUpdates(ctx context.Context, turn fleetlock.Turn, address string, log *slog.Logger) {
	id, err := fleetlock.MachineID(machineID)
	if err == nil {
		var ln net.Listener
		if ln, err = net.Listen("tcp", address); err == nil {
			err = (&fleetlock.Server{Turn: turn, ID: id, Log: log}).Serve(ctx, ln)
		}
	}
	if err != nil && ctx.Err() == nil {
		log.Error("this machine's own updates are not answered, and don't reboot it", "error", err)
	}
}

// checkLoopback refuses an address that others than this machine reach.
func checkLoopback(flag, address string) error {
	if address == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err == nil && (ip == nil || !ip.IsLoopback()) {
		err = errors.New("others than this machine reach it")
	}
	if err != nil {
		return fail(exitUsage, "give one like 127.0.0.1:8090", "%s %q: %w", flag, address, err)
	}
	return nil
}
