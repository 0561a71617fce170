package cell

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Serve sees to it that a process serves req's function version, making one of
// the spare when there is none. What it returns waits for that process; its
// error is an *Error.
func (c *Cell) Serve(req Request) func(context.Context) (Status, error) {
	k := key{req.Function, req.Version}
	if err := checkServe(req); err != nil {
		return func(context.Context) (Status, error) { return Status{}, err }
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.slots[k]
	if s == nil {
		s = &slot{done: make(chan struct{})}
		c.slots[k] = s
		go c.fill(k, s, req)
	}
	return s.wait
}

// wait returns the slot's process once it serves. The error is an *Error.
func (s *slot) wait(ctx context.Context) (Status, error) {
	select {
	case <-s.done:
	case <-ctx.Done():
		return Status{}, &Error{Status: 503, Code: "cancelled", Message: ctx.Err().Error()}
	}
	if s.err != nil {
		return Status{}, s.err
	}
	return s.proc.status(), nil
}

func (p *process) status() Status {
	return Status{Function: p.function, Version: p.version, Socket: p.socket, PID: p.pid, Since: p.since.UTC().Format(time.RFC3339)}
}

// checkServe refuses what would not be a file name.
func checkServe(req Request) *Error {
	name := req.Function
	if name == "" || len(name) > 80 || name != filepath.Base(name) || name[0] == '.' || req.Version == "" {
		return &Error{Status: 400, Code: "bad_request", Message: fmt.Sprintf("cannot serve function %q, version %q: want a name of at most 80 characters without slashes, and a version", name, req.Version)}
	}
	return nil
}

// fill finds a process for a slot; on failure the slot is given up.
func (c *Cell) fill(k key, s *slot, req Request) {
	ctx, cancel := context.WithTimeout(context.Background(), loadTimeout)
	defer cancel()
	p, err := c.specialise(ctx, req)
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.proc = p; err != nil {
		if !errors.As(err, &s.err) {
			s.err = &Error{Status: 503, Code: "cell_error", Message: err.Error()}
		}
	}
	if (err != nil || p.state != serving) && c.slots[k] == s {
		delete(c.slots, k)
	}
	if err == nil && s.stopped {
		time.AfterFunc(stopDelay, func() { c.stopProcess(p) })
	}
	close(s.done)
	c.notify()
}

// specialise turns the spare into the process of one function version.
func (c *Cell) specialise(ctx context.Context, req Request) (*process, error) {
	p, err := c.takeSpare(ctx, req)
	if err != nil {
		return nil, err
	}
	l, err := c.listen(p)
	if err != nil {
		c.kill(p, err.Error())
		return nil, err
	}
	req.Op = "load"
	if err := p.give(l, req); err != nil {
		c.kill(p, "its channel is broken")
		return nil, fmt.Errorf("cannot hand the code to a process: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go p.boundLoad(ctx, cancel, watchLimits(req.Limits).CPU)
	select {
	case m := <-p.loaded:
		if m.T == "serving" {
			c.mu.Lock()
			defer c.mu.Unlock()
			if p.state == loading {
				p.state, p.since = serving, time.Now()
				c.dog.guard(p)
			}
			return p, nil
		}
		c.kill(p, "its code could not be loaded")
		return nil, m.Error
	case <-p.gone:
		return nil, &Error{Status: 400, Code: "exited_while_loading", Message: "the process ended while it loaded the code: " + c.Inquest(p.socket).Reason}
	case <-ctx.Done():
		why := fmt.Sprintf("took longer than %v to load", loadTimeout)
		if errors.Is(context.Cause(ctx), errLoadCPU) {
			why = fmt.Sprintf("used more than %v of CPU (limits.cpu) while it was loaded", watchLimits(req.Limits).CPU)
		}
		c.kill(p, "its code "+why)
		return nil, &Error{Status: 400, Code: "load_timeout", Message: "the code " + why}
	}
}

var errLoadCPU = errors.New("the code has used its CPU while it was loaded")

// boundLoad cancels a load that burns more than limit of CPU; 0: any may.
func (p *process) boundLoad(ctx context.Context, cancel context.CancelCauseFunc, limit time.Duration) {
	before, _, err := p.cpuTime()
	if limit == 0 || err != nil {
		return
	}
	look := time.NewTicker(loadLook)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		if now, _, err := p.cpuTime(); err == nil && now-before >= limit {
			cancel(errLoadCPU)
			return
		}
	}
}

// listen makes the next socket for p.
func (c *Cell) listen(p *process) (*net.UnixListener, error) {
	path := filepath.Join(c.cfg.Dir, p.socket)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("cannot listen for a function: %w", err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		l.Close()
		return nil, err
	}
	c.mu.Lock()
	p.listener = l
	c.mu.Unlock()
	return l, nil
}
