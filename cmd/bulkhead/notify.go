package main

import (
	"context"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Words to systemd about the service that this process is (sd_notify(3)).
// Where nobody asked to be told, they go nowhere.

// notifyReady says that the service does what it is for.
func notifyReady() { _, _ = daemon.SdNotify(false, daemon.SdNotifyReady) }

// notifyStatus is the line that "systemctl status" shows.
func notifyStatus(text string) { _, _ = daemon.SdNotify(false, "STATUS="+text) }

// keepWatchdog tells systemd's watchdog that we are alive as often as its unit
// asks for, as long as alive returns nil in that time; then systemd starts the
// service anew. It returns when ctx ends, or at once without a watchdog.
func keepWatchdog(ctx context.Context, alive func(context.Context) error) {
	patience, err := daemon.SdWatchdogEnabled(false)
	if err != nil || patience == 0 {
		return
	}
	for tick := time.Tick(patience / 3); ; {
		asked, done := context.WithTimeout(ctx, patience/3)
		if alive(asked) == nil {
			_, _ = daemon.SdNotify(false, daemon.SdNotifyWatchdog)
		}
		done()
		select {
		case <-tick:
		case <-ctx.Done():
			return
		}
	}
}
