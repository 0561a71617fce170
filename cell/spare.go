package cell

import (
	"cmp"
	"context"
	"fmt"
	"slices"
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
			return nil, &Error{503, "stopping", "the container is being stopped", ""}
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
			return nil, &Error{503, "no_room", fmt.Sprintf("all %d function processes that the memory allows are busy", c.cfg.Limits.Processes-1), ""}
		}
		select {
		case <-changed:
			c.mu.Lock()
		case <-ctx.Done():
			c.mu.Lock()
			return nil, &Error{503, "no_spare", "no process became ready in time", ""}
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

// vitals is what a process says of itself when it is asked.
type vitals struct {
	p        *process
	answered bool
	inflight int
	idle     time.Duration
}

// evict lets the function that has been idle longest go. False: none is idle,
// and none is on its way out.
func (c *Cell) evict() bool {
	c.mu.Lock()
	if c.count(leaving) > 0 {
		c.mu.Unlock()
		return true
	}
	var asked []*process
	for p := range c.procs {
		if p.state == serving {
			asked = append(asked, p)
		}
	}
	c.mu.Unlock()
	v := ask(asked)
	c.mu.Lock()
	defer c.mu.Unlock()
	p := victim(v)
	if p == nil || p.state != serving {
		return p != nil
	}
	c.log.log(entry{Function: p.function, Version: short(p.version), Level: "platform", Message: "the process was idle and goes: another function needs its room"})
	c.dismiss(p, exitGrace)
	return true
}

// victim chooses among processes the one to let go: of those that answered
// and have nothing in flight, the one idle longest. Nil: none.
func victim(all []vitals) *process {
	idle := slices.DeleteFunc(slices.Clone(all), func(v vitals) bool { return !v.answered || v.inflight > 0 })
	if len(idle) == 0 {
		return nil
	}
	return slices.MaxFunc(idle, func(a, b vitals) int { return cmp.Compare(a.idle, b.idle) }).p
}

// ask pings processes and gathers what they answer in time.
func ask(procs []*process) []vitals {
	for _, p := range procs {
		select {
		case <-p.pong: // one that came too late for whoever asked
		default:
		}
		p.tell(map[string]string{"op": "ping"})
	}
	deadline := time.After(pingTimeout)
	out := make([]vitals, len(procs))
	for i, p := range procs {
		out[i].p = p
		select {
		case m := <-p.pong:
			out[i].answered, out[i].inflight, out[i].idle = true, m.Inflight, time.Duration(m.Idle)*time.Millisecond
		case <-p.gone:
		case <-deadline:
			return out[:i]
		}
	}
	return out
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

// print logs what a process printed under its function's name.
func (c *Cell) print(p *process, e entry) {
	c.mu.Lock()
	e.Function, e.Version = p.function, short(p.version)
	c.mu.Unlock()
	c.log.log(e)
}

// said takes what a process says on its channel.
func (c *Cell) said(p *process, m message) {
	switch m.T {
	case "spare":
		c.mu.Lock()
		if p.state == booting {
			p.state = spare
			close(p.ready)
			c.notify()
		}
		c.mu.Unlock()
	case "serving", "failed":
		offer(p.loaded, m)
	case "pong":
		offer(p.pong, m)
	case "leaving":
		c.mu.Lock()
		p.goodbye = cut(m.Reason, 1024)
		if p.state == serving || p.state == loading {
			c.leave(p)
		}
		c.mu.Unlock()
	}
}

func offer(ch chan message, m message) {
	select {
	case ch <- m:
	default:
	}
}

// ended holds the inquest and tells everyone.
func (c *Cell) ended(p *process, status syscall.WaitStatus) {
	c.mu.Lock()
	defer c.mu.Unlock()
	x := inquest(evidence{
		status: status, leaving: p.goodbye, heapOOM: p.heapOOM.Load(), killedBy: p.killedBy,
		oomKill: oomKills(c.cfg.Cgroup) > p.oomBase,
	})
	if p.state != dead {
		c.leave(p)
	}
	p.state = dead
	delete(c.procs, p)
	if p.listener != nil {
		p.listener.Close()
	}
	if p.socket == "" {
		p.goodbye = x.Reason
		c.notify()
		return
	}
	c.exits[p.socket] = x
	if c.order = append(c.order, p.socket); len(c.order) > keptExits {
		delete(c.exits, c.order[0])
		c.order = c.order[1:]
	}
	c.log.log(entry{Function: p.function, Version: short(p.version), Level: "platform", Message: "the process has ended: " + x.Reason})
	c.broadcast(Event{"exit", p.function, p.version, p.socket, x})
	c.notify()
}

func short(version string) string { return version[:min(7, len(version))] }
