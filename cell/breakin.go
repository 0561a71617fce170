package cell

import (
	"cmp"
	"errors"
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
	stormSights  = 5
	sightsApart  = 3 * time.Millisecond
	confirmAfter = 30 * time.Millisecond // that the code is still the same request's
	afterBreakIn = 1 << 40               // numbers the ping after a break-in
)

// errInnocent says that no one request keeps the event loop.
var errInnocent = errors.New("the code came back, or the turn is another request's by now")

// breakIn pauses the code, completes and pronounces the verdict, and ends the
// turn. The error says why the process could not be brought to reason; told,
// that the verdict was pronounced all the same.
func (c *Cell) breakIn(p *process, v *Verdict) (told bool, err error) {
	s, err := c.attach(p, time.Now().Add(breakInTime))
	if err != nil {
		return false, err
	}
	sight, err := observe(p, s, v.Kind)
	if err != nil {
		s.Close()
		return false, err
	}
	v.Request, v.Where, v.In = cmp.Or(sight.Request, p.mark.read()), sight.Where, sight.In
	c.pronounce(p, *v)
	return true, c.revive(p, s, v.Request)
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

// observe finds out whose the code is that breaks a limit.
func observe(p *process, s *inspect.Session, kind string) (inspect.Sight, error) {
	if kind == watch.Storm {
		return sample(s)
	}
	sight, err := locate(s)
	if err == nil {
		err = confirm(s, sight)
	}
	if err == nil && p.spoke() {
		err = errInnocent
	}
	return sight, err
}

// spoke tells whether the process has answered in the meantime: its code came
// back by itself, and whoever has the turn now is not who kept it.
func (p *process) spoke() bool {
	select {
	case <-p.pongs:
		return true
	default:
		return false
	}
}

// locate looks at the paused code until it is seen where and whose it is. A
// pause may come between two callbacks: then the code is in the next one.
func locate(s *inspect.Session) (inspect.Sight, error) {
	var seen []inspect.Sight
	for end := (time.Time{}); ; {
		sight, err := s.Look()
		if err != nil {
			return sight, err
		}
		if seen = append(seen, sight); len(seen) == 1 {
			end = time.Now().Add(sightTime)
			s.Extend(end.Add(sightTime))
		}
		if sight.Request != "" && sight.Where != "" || time.Now().After(end) {
			return mostOften(seen), nil
		}
		if sight.Where == "" {
			err = s.Step()
		} else {
			err = s.Again(sightsApart)
		}
		if err != nil {
			return sight, err
		}
	}
}

// confirm looks once more, a moment later: where many requests go on in the same
// round of the event loop, each for a short time, the loop does not answer
// either, and none of them is to blame.
func confirm(s *inspect.Session, first inspect.Sight) error {
	if first.Request == "" {
		return nil
	}
	if err := s.Again(confirmAfter); err != nil {
		return err
	}
	second, err := locate(s)
	if err == nil && second.Request != "" && second.Request != first.Request {
		return errInnocent
	}
	return err
}

// sample looks several times, at different turns: a storm is many of them, with
// others' in between. What is seen most often is it.
func sample(s *inspect.Session) (inspect.Sight, error) {
	var seen []inspect.Sight
	for {
		sight, err := s.Look()
		if err != nil {
			return sight, err
		}
		if seen = append(seen, sight); len(seen) == stormSights {
			return mostOften(seen), nil
		}
		if err := s.Again(sightsApart); err != nil {
			return sight, err
		}
	}
}

// mostOften is, of several sights, the one of the request seen most often and
// there of a place, if any has one.
func mostOften(seen []inspect.Sight) inspect.Sight {
	count := map[string]int{}
	for _, s := range seen {
		if s.Request != "" {
			count[s.Request]++
		}
	}
	best := seen[len(seen)-1]
	for _, s := range seen {
		switch {
		case count[s.Request] > count[best.Request]:
			best = s
		case s.Request == best.Request && best.Where == "":
			best = s
		}
	}
	return best
}

// revive ends the turn in which the process is paused, and the next ones of the
// same request, until its event loop answers. Another request's turn that comes
// behind it has not been measured yet: that is for the watchdog to do. The
// session is closed before the loop goes on, for the process cannot close its
// inspector while somebody is attached.
func (c *Cell) revive(p *process, s *inspect.Session, request string) error {
	p.tell(map[string]any{"op": "ping", "n": afterBreakIn})
	deadline := time.Now().Add(recoverTime)
	for {
		s.Extend(deadline)
		err := s.Terminate()
		s.Close()
		switch {
		case err != nil:
			return err
		case answers(p, min(answerTime, time.Until(deadline))):
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
