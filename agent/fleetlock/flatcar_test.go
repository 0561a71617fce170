package fleetlock

import (
	"bufio"
	"context"
	"log/slog"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/godbus/dbus/v5"
)

// bus starts a real dbus-daemon, and returns its address.
func bus(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("dbus-daemon"); err != nil {
		t.Skip("no dbus-daemon")
	}
	address := "unix:path=" + filepath.Join(t.TempDir(), "bus")
	daemon := exec.Command("dbus-daemon", "--session", "--address="+address, "--nofork", "--nopidfile", "--print-address")
	out, err := daemon.StdoutPipe()
	if err == nil {
		err = daemon.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { daemon.Process.Kill(); daemon.Wait() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// engine stands in for update-engine on a real bus: nobody but Flatcar has it.
type engine struct {
	t      *testing.T
	conn   *dbus.Conn
	status atomic.Value
}

// GetStatus is update-engine's.
func (e *engine) GetStatus() (int64, float64, string, string, int64, *dbus.Error) {
	return 1700000000, 0, e.status.Load().(string), "4081.2.0", 400 << 20, nil
}

func newEngine(t *testing.T, address, status string) *engine {
	t.Helper()
	conn, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	e := &engine{t: t, conn: conn}
	e.status.Store(status)
	if err := conn.Export(e, enginePath, engineInterface); err != nil {
		t.Fatal(err)
	}
	if got, err := conn.RequestName(engineName, 0); err != nil || got != dbus.RequestNameReplyPrimaryOwner {
		t.Fatalf("the name is not ours: %v, %v", got, err)
	}
	return e
}

func (e *engine) says(status string) {
	e.t.Helper()
	e.status.Store(status)
	if err := e.conn.Emit(enginePath, engineInterface+".StatusUpdate", int64(1700000000), 0.0, status, "4081.2.0", int64(400<<20)); err != nil {
		e.t.Fatal(err)
	}
}

// flatcar runs a host's until the end is called.
func (l *lock) flatcar(address string, order Turn, rebooted chan struct{}) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	f := Flatcar{
		Turn: order, Group: "default", ID: machine, Bus: address, Log: slog.New(slog.NewTextHandler(l.t.Output(), nil)),
		Reboot: func(ctx context.Context) error {
			rebooted <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		},
	}
	go func() { defer close(done); f.Run(ctx) }()
	return func() { cancel(); <-done }
}

func TestFlatcarTakesItsTurnWhenItsUpdateWantsAReboot(t *testing.T) {
	l := newLock(t, 0)
	address := bus(t)
	e := newEngine(t, address, "UPDATE_STATUS_IDLE")
	rebooted := make(chan struct{})
	end := l.flatcar(address, l.turn, rebooted)
	for _, status := range []string{"UPDATE_STATUS_CHECKING_FOR_UPDATE", "UPDATE_STATUS_DOWNLOADING", needReboot} {
		e.says(status)
	}
	l.ask(true)
	end() // an agent that is restarted meanwhile
	end = l.flatcar(address, l.turn, rebooted)
	l.order(`{"id":"1","leave":true}`)
	select {
	case <-rebooted:
		t.Fatal("it reboots before its turn has come")
	default:
	}
	l.order(`{"id":"2","leave":true,"granted":true}`)
	<-rebooted
	end()

	e.status.Store("UPDATE_STATUS_IDLE") // of the next boot
	end = l.flatcar(address, l.turn, rebooted)
	defer end()
	l.ask(false)
	l.order("")
	e.says(needReboot)
	if a := l.ask(true); a.ID != machine || a.Group != "default" {
		t.Errorf("it asks %+v", a)
	}
}
