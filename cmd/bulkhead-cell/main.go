// Command bulkhead-cell is PID 1 of a tenant's container; see package cell.
// Without arguments it finds everything where the image has it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"bulkhead/cell"
	"bulkhead/internal/confine"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bulkhead-cell:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	if err := errors.Join(cell.Harden(), confine.Cell()); err != nil {
		return err
	}
	return cell.Run(ctx, cell.FromEnvironment(os.Getenv))
}
