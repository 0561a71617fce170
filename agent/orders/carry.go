package orders

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"bulkhead/cluster"
)

// again is how soon what should not fail is tried again.
const again = time.Second

// see sees to the order in force until it is done, failed or ctx ends; then
// another is in force.
func (o *Orders) see(ctx context.Context) {
	if err := o.keep(func(*state) {}); err != nil { // before anything is done
		o.fail(ctx, err)
		return
	}
	s := o.now()
	if !s.leaves(o.cfg.Boot) {
		o.stay(ctx)
	}
	if s.over() {
		return
	}
	err := o.carry(ctx)
	switch {
	case ctx.Err() != nil: // somebody else goes on, or nobody has to
	case err != nil:
		o.fail(ctx, err)
	default:
		o.cfg.Log.Info("order carried out", "order", s.Order.ID)
		o.end(ctx, func(s *state) { s.Report.State = cluster.OrderDone })
	}
}

func (o *Orders) fail(ctx context.Context, err error) {
	o.cfg.Log.Error("order failed", "order", o.now().Order.ID, "error", err)
	o.end(ctx, func(s *state) { s.Report.State, s.Report.Error = cluster.OrderFailed, err.Error() })
}

// end keeps the order's end. A disk that is full does not keep it from being
// told.
func (o *Orders) end(ctx context.Context, change func(*state)) {
	for said := false; ctx.Err() == nil; said = true {
		err := o.keep(change)
		if err == nil {
			return
		}
		if !said {
			o.cfg.Log.Error("cannot note an order's end, trying on", "error", err)
			if s := o.now(); s.Order.ID != "" {
				o.tell.say(s.Report)
			}
		}
		pause(ctx, again)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// stay has the proxy take requests again, once the host is well.
func (o *Orders) stay(ctx context.Context) {
	select {
	case <-o.cfg.Well:
	case <-ctx.Done():
		return
	}
	for ctx.Err() == nil {
		err := o.cfg.Door.Open()
		if err == nil {
			return
		}
		o.cfg.Log.Error("the proxy says that it is leaving, and should not", "error", err)
		pause(ctx, again)
	}
}

// carry carries out the parts of the order in force, one after the other.
func (o *Orders) carry(ctx context.Context) error {
	s := o.now()
	if s.rebooted(o.cfg.Boot) {
		return nil
	}
	if s.leaves(o.cfg.Boot) {
		if err := o.leave(ctx); err != nil {
			return err
		}
	}
	if s.Order.Image != "" {
		if err := o.cfg.Image(ctx, s.Order); err != nil {
			return err
		}
	}
	if s.Order.Release != "" {
		if err := o.release(ctx, s); err != nil {
			return err
		}
	}
	if s.Order.Action != "" {
		return o.act(ctx, s)
	}
	return nil
}

// leave has the proxy say that it is leaving, and waits so long that everybody
// has seen it.
func (o *Orders) leave(ctx context.Context) error {
	since, err := o.cfg.Door.Close()
	if err != nil {
		return err
	}
	pause(ctx, time.Until(since.Add(o.cfg.Linger)))
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return o.keep(func(s *state) { s.Report.Left = true })
}

// release has the host become a release. The agent that follows us finds that
// it is, and says so once that is sure to stay so.
func (o *Orders) release(ctx context.Context, s state) error {
	r := o.cfg.Releases
	switch {
	case r == nil:
		return errors.New("cannot become another release: this host was not told where to fetch one (bulkhead agent --artifacts)")
	case r.Current() == s.Order.Release:
		select {
		case <-r.Proved():
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	case s.Step == begun:
		if why := r.TakenBack(s.Order.Release); why != "" {
			return fmt.Errorf("cannot become release %s: %s; this host went back to %s by itself", s.Order.Release, why, r.Current())
		}
		return fmt.Errorf("cannot become release %s: the agent was restarted and is still %s", s.Order.Release, r.Current())
	}
	if err := r.Install(ctx, s.Order.Release); err != nil {
		return err
	}
	if err := o.keep(func(s *state) { s.Step = begun }); err != nil {
		return err
	}
	if err := r.Restart(ctx); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(restartPatience):
		return fmt.Errorf("cannot become release %s: the agent was not restarted within %v", s.Order.Release, restartPatience)
	}
}

// restartPatience is how long we may go on after we were told to restart.
const restartPatience = 3 * time.Minute

// act runs the action, or waits for the one that an agent before us began.
func (o *Orders) act(ctx context.Context, s state) error {
	name := s.Order.Action
	has, err := o.acted(ctx, s)
	if err != nil {
		return err
	}
	if !has {
		if err := o.known(ctx, name); err != nil {
			return err
		}
		if err := o.keep(func(s *state) { s.Step = begins }); err != nil {
			return err
		}
		if err := o.cfg.Actions.StartAction(ctx, name); err != nil {
			return err
		}
	}
	if err := o.keep(func(s *state) { s.Step = begun }); err != nil {
		return err
	}
	return o.cfg.Actions.AwaitAction(ctx, name)
}

// acted says whether the action was begun.
func (o *Orders) acted(ctx context.Context, s state) (bool, error) {
	switch s.Step {
	case begun:
		return true, nil
	case begins:
		return o.cfg.Actions.ActionSince(ctx, s.Order.Action, s.Begun)
	}
	return false, nil
}

// known refuses an action that the host does not declare.
func (o *Orders) known(ctx context.Context, name string) error {
	all, err := o.cfg.Actions.Actions(ctx)
	if err != nil {
		return err
	}
	if slices.Contains(all, name) {
		return nil
	}
	there := "there is none"
	if len(all) > 0 {
		there = "there are " + strings.Join(all, ", ")
	}
	return fmt.Errorf("cannot run action %q: this host has no unit bulkhead-action-%s.service; %s", name, name, there)
}
