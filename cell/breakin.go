package cell

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"bulkhead/cell/inspect"
	"bulkhead/cell/watch"
)

// What a break-in may take. Starting an inspector in a busy process on a busy
// machine takes up to 200 ms.
const (
	breakInTime  = 750 * time.Millisecond // until the code is paused
	recoverTime  = time.Second            // from then until the event loop answers again
	answerTime   = 100 * time.Millisecond // of that, after each turn that was ended
	sightTime    = 400 * time.Millisecond // for finding out where and whose the code is
	nativeTime   = 100 * time.Millisecond // of CPU, in which code of JavaScript would have paused
	stormSights  = 5
	sightsApart  = 3 * time.Millisecond
	confirmAfter = 30 * time.Millisecond // that the code is still the same request's
	afterBreakIn = 1 << 40               // numbers the ping after a break-in
)

// errInnocent says that no one request keeps the event loop.
var errInnocent = errors.New("the turn is another request's by now")

// errBack says that the code has come back by itself.
var errBack = errors.New("the code came back by itself")

// errNoPause says that the process did not pause, or not in time.
var errNoPause = errors.New("cannot pause the process")

// errNative says that it had the time: the code does not come to a place where
// it can be paused.
var errNative = errors.New("the code is in a native call")

// maxPatience is how many times as long a break-in may take where the process
// gets little CPU.
const maxPatience = 6

// patience is how many times as long a break-in may take: as long as the code
// took for its CPU time.
func patience(b watch.Breach) time.Duration {
	if b.Kind != watch.Block {
		return 1
	}
	return min(max(b.Took/max(b.Measured, 1), 1), maxPatience)
}

// breakIn pauses the code, completes and pronounces the verdict, and ends the
// turn. The error says why the process could not be brought to reason; told,
// that the verdict was pronounced all the same.
func (c *Cell) breakIn(p *process, v *Verdict, patience time.Duration) (told bool, err error) {
	before := p.burned()
	s, sight, err := c.pause(p, v.Kind, time.Now().Add(patience*breakInTime))
	if errors.Is(err, errNoPause) && (v.Kind == watch.Stall || p.burned()-before >= nativeTime) {
		err = errNative
	}
	if err != nil {
		return false, err
	}
	v.Request, v.Where, v.In = p.whose(v.Kind, sight), sight.Where, sight.In
	c.pronounce(p, *v)
	return true, c.revive(p, s, sight.Request, patience)
}

// pause has the process paused, and tells whose code it is in.
func (c *Cell) pause(p *process, kind string, deadline time.Time) (*inspect.Session, inspect.Sight, error) {
	s, err := c.attach(p, deadline)
	if err != nil {
		return nil, inspect.Sight{}, fmt.Errorf("%w: %w", errNoPause, err)
	}
	sight, err := observe(p, s, kind)
	if err != nil {
		s.Close()
		if !errors.Is(err, errInnocent) && !errors.Is(err, errBack) {
			err = fmt.Errorf("%w: %w", errNoPause, err)
		}
	}
	return s, sight, err
}

// attach asks the process to pause. Its inspector may still be open from the
// last time.
func (c *Cell) attach(p *process, deadline time.Time) (*inspect.Session, error) {
	if p.inspector != (inspect.Address{}) {
		if s, err := inspect.Attach(p.inspector, p.eye, deadline); err == nil {
			return s, nil
		}
	}
	a, err := c.openInspector(p, deadline)
	if err != nil {
		return nil, err
	}
	p.inspector = a
	return inspect.Attach(a, p.eye, deadline)
}

// openInspector has the process listen for a debugger (SIGUSR1) and returns
// where it does.
func (c *Cell) openInspector(p *process, deadline time.Time) (inspect.Address, error) {
	select {
	case <-p.address: // said by the code, or before it closed the last one
	default:
	}
	c.reaper.kill(p.pid, syscall.SIGUSR1)
	select {
	case a := <-p.address:
		return a, nil
	case <-p.gone:
	case <-time.After(time.Until(deadline)):
	}
	return inspect.Address{}, errors.New("the process does not open its inspector")
}

// revive ends the turn in which the process is paused, and the next ones of the
// same request, until its event loop answers. Another request's turn that comes
// behind it has not been measured yet: that is for the watchdog to do. The
// session is closed before the loop goes on, for the process cannot close its
// inspector while somebody is attached. Request is whose async context it was.
func (c *Cell) revive(p *process, s *inspect.Session, request string, patience time.Duration) error {
	p.ping(afterBreakIn)
	deadline := time.Now().Add(patience * recoverTime)
	for {
		s.Extend(deadline)
		err := s.Terminate()
		s.Close()
		switch {
		case err != nil:
			return err
		case answers(p, min(patience*answerTime, time.Until(deadline))):
			p.tell(map[string]string{"op": "blind"})
			return nil
		case p.isGone() || time.Now().After(deadline):
			return errors.New("the event loop does not answer")
		}
		if s, err = c.attach(p, deadline); err != nil {
			return err
		}
		sight, err := locate(s)
		if err != nil || request != "" && sight.Request != "" && sight.Request != request {
			s.Close()
			return err
		}
	}
}

// answers waits for the answer to the ping after a break-in.
func answers(p *process, wait time.Duration) bool {
	for deadline := time.After(wait); ; {
		select {
		case pong := <-p.pongs:
			if pong.N == afterBreakIn {
				return true
			}
		case <-p.gone:
			return false
		case <-deadline:
			return false
		}
	}
}
