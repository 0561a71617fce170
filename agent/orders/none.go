package orders

import (
	"context"
	"errors"
	"time"
)

// None are the actions of a host that can have none.
type None struct{}

var _ Actions = None{}

// Actions implements [Actions].
func (None) Actions(context.Context) ([]string, error) { return nil, nil }

var errNone = errors.New("this host has no actions: systemd does not run its units")

// StartAction implements [Actions].
func (None) StartAction(context.Context, string) error { return errNone }

// ActionSince implements [Actions].
func (None) ActionSince(context.Context, string, time.Time) (bool, error) { return false, errNone }

// AwaitAction implements [Actions].
func (None) AwaitAction(context.Context, string) error { return errNone }
