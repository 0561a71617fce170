package main

import (
	"context"
	"errors"
	"net"
	"sync"

	"bulkhead/agent/fleetlock"
	"bulkhead/agent/orders"
)

// machineID is where a machine says which it is: machine-id(5).
const machineID = "/etc/machine-id"

// updates lets this machine's own updates take their turn until ctx ends. Where
// that can't be, they get none, which is the safe side: tenants are served all
// the same.
func (o agentOptions) updates(ctx context.Context, turn fleetlock.Turn, p parts) {
	log := p.log.With("part", "fleetlock")
	id, err := fleetlock.MachineID(machineID)
	if err != nil {
		log.Error("this machine's own updates get no turn, and don't reboot it", "error", err)
		return
	}
	var work sync.WaitGroup
	defer work.Wait()
	if s, ok := p.services.(orders.Actions); ok && o.flatcar != "" {
		f := fleetlock.Flatcar{Turn: turn, Group: o.flatcar, ID: id, Log: log, Reboot: func(ctx context.Context) error { return reboot(ctx, s) }}
		work.Go(func() { f.Run(ctx) })
	}
	if o.lock == "" {
		return
	}
	ln, err := net.Listen("tcp", o.lock)
	if err == nil {
		err = (&fleetlock.Server{Turn: turn, ID: id, Log: log}).Serve(ctx, ln)
	}
	if err != nil && ctx.Err() == nil {
		log.Error("this machine's own updates are not answered, and don't reboot it", "error", err)
	}
}

// reboot runs the host's own action of that name; the host ends before it does.
func reboot(ctx context.Context, actions orders.Actions) error {
	const name = "reboot"
	if err := actions.StartAction(ctx, name); err != nil {
		return err
	}
	if err := actions.AwaitAction(ctx, name); err != nil {
		return err
	}
	return errors.New("its action reboot has ended, and it is still there")
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
