// Command bulkhead-runner is the jailed process that stands before one
// tenant's container: package runner. It takes no arguments; its socket and
// its credential are handed to it by systemd or the agent's supervisor.
package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"bulkhead/internal/waking"
	"bulkhead/runner"
)

// drainTime is a little less than systemd's default before it kills.
const drainTime = 80 * time.Second

// functions is where the jail shows the tenant's.
const functions = "/functions"

func main() {
	// One core is all that a runner needs, and idle spinning of more than one
	// costs its tenant.
	runtime.GOMAXPROCS(1)
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := run(log); err != nil {
		log.Error("runner ends", "error", err)
		os.Exit(1)
	}
}

func run(log *slog.Logger) error {
	config, err := runner.Credential()
	if err != nil {
		return err
	}
	ln, err := runner.Listener()
	if err != nil {
		return err
	}
	if err := harden(); err != nil {
		return err
	}
	r, err := runner.New(config, runner.Options{Functions: functions, Cell: "/cell", Agent: "/agent/" + waking.Socket, Logs: runner.OpenLogs(os.Stdout), Log: log})
	if err != nil {
		return err
	}
	defer r.Close()
	term, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	served := make(chan error, 1)
	go func() { served <- r.Serve(ln) }()
	select {
	case err := <-served: // without one it has gone to sleep
		if err != nil {
			return err
		}
	case <-term.Done():
	}
	ln.Close()
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	return r.Drain(ctx)
}
