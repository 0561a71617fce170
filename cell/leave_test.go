package cell

import (
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// A process that does not go is killed when it has shown no sign of requests in
// flight for quietGrace, and after its grace whatever it says.
func TestLeavingIsBounded(t *testing.T) {
	for _, tc := range []struct {
		name     string
		busyFor  time.Duration // it says that requests are in flight
		idleFor  time.Duration // and then, that none are; and then nothing
		grace    time.Duration
		from, to time.Duration
		why      string
	}{
		{"silent from the start", 0, 0, stopGrace, quietGrace, quietGrace + 2*probePause, "in flight"},
		{"idle, but it stays", 0, time.Hour, stopGrace, quietGrace, quietGrace + 2*probePause, "in flight"},
		{"busy for a while, then stuck", 40 * time.Second, 0, stopGrace, 65 * time.Second, 80 * time.Second, "in flight"},
		{"busy for ever", time.Hour, 0, stopGrace, stopGrace, stopGrace + time.Second, "1m25s"},
		{"with the container stopped", time.Hour, 0, exitGrace, exitGrace, exitGrace + time.Second, "8s"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(pair[1])
			f := os.NewFile(uintptr(pair[0]), "channel")
			defer f.Close()
			conn, err := net.FileConn(f)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			synctest.Test(t, func(t *testing.T) {
				c := &Cell{reaper: &reaper{}, changed: make(chan struct{})}
				p := &process{state: leaving, ipc: conn.(*net.UnixConn), pong: make(chan message, 1), gone: make(chan struct{})}
				start, done := time.Now(), make(chan struct{})
				go answerPings(p, tc.busyFor, tc.idleFor, done)
				c.expect(p, tc.grace)
				close(done)
				took := time.Since(start)
				if took < tc.from || took > tc.to || !strings.Contains(p.killedBy, tc.why) {
					t.Errorf("killed after %v: %q; want %v to %v, about %q", took, p.killedBy, tc.from, tc.to, tc.why)
				}
			})
		})
	}
}

func answerPings(p *process, busyFor, idleFor time.Duration, done chan struct{}) {
	start := time.Now()
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		select {
		case <-done:
			tick.Stop()
			return
		case <-tick.C:
		}
		if past := time.Since(start); past < busyFor {
			offer(p.pong, message{T: "pong", Inflight: 1})
		} else if past < busyFor+idleFor {
			offer(p.pong, message{T: "pong"})
		}
	}
}
