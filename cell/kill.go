package cell

import (
	"cmp"
	"context"
	"syscall"
)

// Kill ends the processes of req's function version at once, or only the one
// of req.Socket when that is given. What it returns waits until they are dead
// or ctx is done. req.Reason is what the inquest will say.
func (c *Cell) Kill(req Request) func(ctx context.Context) {
	doomed := c.named(req.Function, req.Version, req.Socket)
	for _, p := range doomed {
		c.kill(p, cmp.Or(cut(req.Reason, maxReason), "killed"))
	}
	return func(ctx context.Context) {
		for _, p := range doomed {
			select {
			case <-p.gone:
			case <-ctx.Done():
				return
			}
		}
	}
}

// named returns a version's processes; with a socket, only that one's.
func (c *Cell) named(function, version, socket string) []*process {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []*process
	for p := range c.procs {
		if p.socket != "" && p.function == function && p.version == version && (socket == "" || p.socket == socket) {
			all = append(all, p)
		}
	}
	return all
}

// kill ends p at once, when it has been noted whose turn it is.
func (c *Cell) kill(p *process, why string) {
	c.mu.Lock()
	if p.killedBy == "" {
		p.killedBy = why
	}
	if p.state < leaving {
		c.leave(p)
	}
	c.mu.Unlock()
	p.lastTurn()
	c.reaper.kill(p.pid, syscall.SIGKILL)
}
