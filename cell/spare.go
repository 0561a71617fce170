package cell

import (
	"context"
	"fmt"
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
		if !room && !c.evict() {
			c.mu.Lock()
			return nil, &Error{Status: 503, Code: "no_room", Message: fmt.Sprintf("all %d function processes that the memory allows are busy", c.cfg.Limits.Processes-1)}
		}
		select {
		case <-changed:
			c.mu.Lock()
		case <-ctx.Done():
			c.mu.Lock()
			return nil, &Error{Status: 503, Code: "no_spare", Message: "no process became ready in time"}
		}
	}
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
	p.socket = fmt.Sprintf("%s.%d.sock", req.Function, c.sockets)
	c.taken = time.Now()
	c.notify()
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
