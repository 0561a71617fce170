package fleetlock

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/godbus/dbus/v5"
)

// What update-engine is called on the system's bus.
const (
	engineName      = "com.coreos.update1"
	enginePath      = dbus.ObjectPath("/com/coreos/update1")
	engineInterface = "com.coreos.update1.Manager"
	needReboot      = "UPDATE_STATUS_UPDATED_NEED_REBOOT"
)

const (
	flatcarAgain = 10 * time.Second // after the bus was lost
	rebootAgain  = 5 * time.Minute  // after a reboot that failed, as Zincati
)

// Flatcar takes this host's turn when Flatcar's update-engine has an update
// that wants a reboot, reboots, and gives the turn back afterwards: what Zincati
// does elsewhere.
type Flatcar struct {
	Turn      Turn
	Group, ID string
	Reboot    func(context.Context) error // returns only if it failed, or ctx ended
	Bus       string                      // address of the bus; empty: the system's
	Log       *slog.Logger
}

// Run does so until ctx ends.
func (f Flatcar) Run(ctx context.Context) {
	for said := ""; ctx.Err() == nil; pause(ctx, flatcarAgain) {
		if err := f.follow(ctx); err != nil && ctx.Err() == nil && err.Error() != said {
			said = err.Error()
			f.Log.Warn("Flatcar's update-engine can't be followed, trying on", "error", err)
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func (f Flatcar) connect() (*dbus.Conn, error) {
	if f.Bus == "" {
		return dbus.ConnectSystemBus()
	}
	return dbus.Connect(f.Bus)
}

// follow acts on what update-engine says, until the bus is lost.
func (f Flatcar) follow(ctx context.Context) error {
	conn, err := f.connect()
	if err != nil {
		return fmt.Errorf("cannot connect to the system's bus: %w", err)
	}
	defer conn.Close()
	signals := make(chan *dbus.Signal, 64)
	conn.Signal(signals)
	err = conn.AddMatchSignalContext(ctx, dbus.WithMatchInterface(engineInterface), dbus.WithMatchMember("StatusUpdate"), dbus.WithMatchObjectPath(enginePath))
	if err != nil {
		return fmt.Errorf("cannot follow update-engine: %w", err)
	}
	status, err := ask(ctx, conn)
	if err != nil {
		return err
	}
	if status != needReboot {
		f.giveBack(ctx)
	}
	for ctx.Err() == nil {
		if status == needReboot {
			f.takeTurn(ctx)
			pause(ctx, rebootAgain)
		} else {
			select {
			case s, ok := <-signals:
				if !ok {
					return errors.New("the bus was lost")
				}
				status = statusOf(s.Body)
				continue
			case <-ctx.Done():
			}
		}
		if status, err = ask(ctx, conn); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// ask returns update-engine's status.
func ask(ctx context.Context, conn *dbus.Conn) (string, error) {
	call := conn.Object(engineName, enginePath).CallWithContext(ctx, engineInterface+".GetStatus", 0)
	if call.Err != nil {
		return "", fmt.Errorf("cannot ask update-engine for its status: %w", call.Err)
	}
	return statusOf(call.Body), nil
}

// statusOf is the third of what both GetStatus and StatusUpdate say: when it
// last looked, how far it is, what it does, which version, how large that is.
func statusOf(body []any) string {
	if len(body) < 3 {
		return ""
	}
	status, _ := body[2].(string)
	return status
}

// giveBack gives back the turn in which this host was rebooted, if it was.
func (f Flatcar) giveBack(ctx context.Context) {
	for said := false; ctx.Err() == nil; said = true {
		err := f.Turn.Give(ctx, f.Group, f.ID)
		if err == nil {
			return
		}
		if !said && ctx.Err() == nil {
			f.Log.Warn("cannot give this host's turn back, trying on", "error", err)
		}
		pause(ctx, flatcarAgain)
	}
}

// takeTurn waits for this host's turn, and reboots.
func (f Flatcar) takeTurn(ctx context.Context) {
	f.Log.Info("an update of the system wants a reboot: asking for this host's turn", "group", f.Group)
	err := f.Turn.Take(ctx, f.Group, f.ID)
	if err == nil {
		f.Log.Info("this host's turn has come: it reboots")
		err = f.Reboot(ctx)
	}
	if err != nil && ctx.Err() == nil {
		f.Log.Error("this host does not reboot into its update, trying again", "error", err, "in", rebootAgain)
	}
}
