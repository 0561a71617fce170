package systemd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	godbus "github.com/godbus/dbus/v5"
)

const (
	// followAgain is how long to wait before following signals again after
	// the bus was lost.
	followAgain = time.Second
	// unitPaths is how the paths of our units' objects start: a dash is _2d.
	unitPaths = "/org/freedesktop/systemd1/unit/bulkhead_2d"
)

// follow turns changes of our units into hints until ctx ends. It has a
// connection of its own: go-systemd's subscriptions can't be set up without a
// race, and look at every unit of the host.
func (s *Systemd) follow(ctx context.Context) {
	for ctx.Err() == nil {
		if err := s.followOnce(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("lost systemd's signals, asking again", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(followAgain):
		}
	}
}

// followOnce returns when the connection has ended, or ctx has.
func (s *Systemd) followOnce(ctx context.Context) error {
	conn, err := godbus.ConnectSystemBus()
	if err != nil {
		return fmt.Errorf("cannot connect to the system bus: %w", err)
	}
	defer conn.Close()
	err = conn.AddMatchSignalContext(ctx,
		godbus.WithMatchSender("org.freedesktop.systemd1"),
		godbus.WithMatchInterface("org.freedesktop.DBus.Properties"),
		godbus.WithMatchMember("PropertiesChanged"),
		godbus.WithMatchPathNamespace("/org/freedesktop/systemd1/unit"))
	if err != nil {
		return fmt.Errorf("cannot ask the system bus for signals: %w", err)
	}
	// What finds the channel full is dropped; a full channel is a hint that
	// has not been taken yet.
	signals := make(chan *godbus.Signal, 256)
	conn.Signal(signals)
	systemd := conn.Object("org.freedesktop.systemd1", "/org/freedesktop/systemd1")
	if err := systemd.CallWithContext(ctx, "org.freedesktop.systemd1.Manager.Subscribe", 0).Err; err != nil {
		return fmt.Errorf("cannot subscribe to systemd's signals: %w", err)
	}
	s.hint() // anything may have happened before
	for {
		select {
		case <-ctx.Done():
			return nil
		case signal, ok := <-signals:
			if !ok {
				return errors.New("the system bus closed the connection")
			}
			if strings.HasPrefix(string(signal.Path), unitPaths) {
				s.hint()
			}
		}
	}
}
