package cell

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"syscall"
	"time"
)

// takeSpare waits for a spare and for room beside the functions that are being
// served, evicting the one that has been idle longest when there is none. The
// process it returns is loading req's function.
func (c *Cell) takeSpare(ctx context.Context, req Request) (*process, error) {
	c.mu.Lock()
	c.waiters++
	c.notify()
	defer func() { c.waiters--; c.mu.Unlock() }()
	for {
		if c.stopping {
			return nil, &Error{Status: 503, Code: "stopping", Message: "the container is being stopped"}
		}
		room := c.count(loading, serving, leaving) < c.cfg.Limits.Processes-1
		if p := c.findSpare(); p != nil && room {
			c.assign(p, req)
			return p, nil
		}
		changed := c.changed
		c.mu.Unlock()
		var again <-chan time.Time
		if !room {
			if !c.evict() {
				c.mu.Lock()
				return nil, c.noRoom("are busy")
			}
			again = time.After(leaveTime) // who is leaving may take long, and another be idle by then
		}
		select {
		case <-changed:
			c.mu.Lock()
		case <-again:
			c.mu.Lock()
		case <-ctx.Done():
			c.mu.Lock()
			if !room {
				return nil, c.noRoom("are busy or leaving, and none went in time")
			}
			return nil, &Error{Status: 503, Code: "no_spare", Message: "there is room, but no process became ready in time"}
		}
	}
}

// noRoom says that room is what lacks.
func (c *Cell) noRoom(why string) *Error {
	return &Error{Status: 503, Code: "no_room", Message: fmt.Sprintf("no room for another function: all %d processes that the memory allows %s", c.cfg.Limits.Processes-1, why)}
}

func (c *Cell) findSpare() *process {
	for p := range c.procs {
		if p.state == spare {
			return p
		}
	}
	return nil
}

// assign makes p the process of req's function version. The lock is held.
func (c *Cell) assign(p *process, req Request) {
	c.sockets++
	p.state, p.function, p.version = loading, req.Function, req.Version
	p.limits = watchLimits(req.Limits)
	p.socket = socketName(req.Function, c.sockets)
	c.taken = time.Now()
	c.notify()
}

// socketName names the n-th socket. Its random part is for the tenant's other
// functions: they share the directory, and must neither connect to a socket
// nor bind its name first. A long function name is cut: a socket's path has at
// most 107 bytes (unix(7)).
func socketName(function string, n int) string {
	var secret [8]byte
	rand.Read(secret[:]) // never fails
	function = strings.ToValidUTF8(function[:min(len(function), 48)], "")
	return fmt.Sprintf("%s.%d.%x.sock", function, n, secret)
}

// keepSpare keeps one spare until ctx is cancelled. One that died before it
// was ready is followed by the next after a pause that doubles.
func (c *Cell) keepSpare(ctx context.Context) {
	pause := 100 * time.Millisecond
	for {
		wait, changed := c.spareDue(time.Now())
		switch {
		case wait == 0:
			if err := c.bootSpare(ctx); err != nil {
				c.log.platform("%v; next try in %v", err, pause)
				wait, pause = pause, min(2*pause, 5*time.Second)
			} else {
				pause = 100 * time.Millisecond
				continue
			}
			changed = nil
		case wait < 0:
			wait = time.Hour
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-time.After(wait):
		}
	}
}

// spareDue tells in how long the next spare should be started: 0 is now, less
// is not at all until something changes.
func (c *Cell) spareDue(now time.Time) (time.Duration, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopping || c.count(booting, spare) > 0 || len(c.procs) >= c.cfg.Limits.Processes {
		return -1, c.changed
	}
	if c.waiters > 0 {
		return 0, c.changed
	}
	return max(0, c.taken.Add(spareDelay).Sub(now)), c.changed
}

// bootSpare starts a process and waits until it is a spare.
func (c *Cell) bootSpare(ctx context.Context) error {
	c.mu.Lock()
	c.number++
	cmd := c.command
	if c.ownUsers {
		cmd.user = userOf(syscall.Getuid(), c.number)
	}
	kills := oomKills(c.cfg.Cgroup)
	p, err := startProcess(c.reaper, cmd, c.number, c.print, c.said, c.ended)
	if err != nil {
		c.mu.Unlock()
		return err
	}
	p.oomBase = kills
	c.procs[p] = true
	c.notify()
	c.mu.Unlock()
	select {
	case <-p.ready:
		return nil
	case <-p.gone:
		if c.outgrown(p) {
			return nil
		}
		return fmt.Errorf("a spare process ended before it was ready: %s", p.goodbye)
	case <-ctx.Done():
		c.kill(p, "the cell is stopping")
		return nil
	case <-time.After(loadTimeout):
		c.kill(p, "it took too long to boot")
		<-p.gone
		return fmt.Errorf("a spare process was not ready within %v", loadTimeout)
	}
}
