package cell

import "syscall"

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
			p.state, p.eye = spare, m.Eye
			go p.mark.find(p.pid, m.Mark)
			close(p.ready)
			c.notify()
		}
		c.mu.Unlock()
	case "serving", "failed":
		offer(p.loaded, m)
	case "garbled": // of which one may have been the answer
		offer(p.loaded, message{T: "failed", Error: loadError("", "the code cannot be loaded: what its process says is garbled", "")})
	case "pong":
		if m.N == "" {
			offer(p.pong, m)
		} else {
			p.heard(m)
		}
	case "leaving":
		c.mu.Lock()
		p.goodbye = m.Reason
		if p.state == serving || p.state == loading {
			c.leave(p)
			go c.expect(p, stopGrace)
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
		oomKill: oomKills(c.cfg.Cgroup) > p.oomBase, verdict: p.verdict,
	})
	if s := p.dying.Load(); s != nil {
		x.Request = *s
	} else if s := p.steady.Load(); s != nil && x.OOM {
		x.Request = *s
	}
	if s := p.place.Load(); s != nil {
		x.Where = *s
	}
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
	c.broadcast(Event{Event: "exit", Function: p.function, Version: p.version, Socket: p.socket, Exit: &x})
	c.notify()
}

func short(version string) string { return version[:min(7, len(version))] }
