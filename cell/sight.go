package cell

import (
	"cmp"
	"time"

	"bulkhead/cell/inspect"
	"bulkhead/cell/watch"
)

// observe finds out whose the code is that breaks a limit.
func observe(p *process, s *inspect.Session, kind string) (inspect.Sight, error) {
	if kind == watch.Storm {
		return sample(s)
	}
	sight, err := locate(s)
	if err == nil {
		err = confirm(p, s, kind, sight)
	}
	if err == nil && p.spoke() {
		err = errBack
	}
	return sight, err
}

// whose tells whose the paused code is. A request's async context (the sight's)
// can be borrowed: AsyncLocalStorage.snapshot() runs anybody's code as another
// request's. A synchronous turn cannot, so where one blocks the loop, it counts.
func (p *process) whose(kind string, sight inspect.Sight) string {
	if kind == watch.Storm {
		return cmp.Or(sight.Request, p.mark.read())
	}
	return cmp.Or(p.mark.read(), sight.Request)
}

// spoke tells whether the process has answered in the meantime: its code came
// back by itself, and whoever has the turn now is not who kept it.
func (p *process) spoke() bool { return p.spokeWithin(0) }

// spokeWithin is spoke, of one that may just be coming back: what was tried on
// it may have held it up.
func (p *process) spokeWithin(wait time.Duration) bool {
	select {
	case <-p.pongs:
		return true
	case <-p.gone:
		return false
	case <-time.After(wait):
	}
	return p.spokeNow()
}

func (p *process) spokeNow() bool {
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
func confirm(p *process, s *inspect.Session, kind string, sight inspect.Sight) error {
	first := p.whose(kind, sight)
	if first == "" {
		return nil
	}
	if err := s.Again(confirmAfter); err != nil {
		return err
	}
	sight, err := locate(s)
	if err != nil {
		return err
	}
	if second := p.whose(kind, sight); second != "" && second != first {
		return errInnocent
	}
	return nil
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
