package agent

import (
	"context"
	"encoding/json"
	"time"

	"bulkhead/agent/cells"
	"bulkhead/cluster"
)

// observeAgain is how soon to look again when the host could not be observed.
const observeAgain = time.Second

// reconcile looks at what is desired and what is, sets workers to the
// difference and reports. It returns how long may pass until the next look.
func (a *Agent) reconcile(ctx context.Context) time.Duration {
	a.book.keepRest()
	a.openAgain()
	a.noteModules()
	desired := a.book.desired(a.cfg.Host.Paths)
	seen, err := a.observer.observe(ctx, a.worked)
	if err != nil {
		if ctx.Err() == nil {
			a.cfg.Log.Error("cannot look at this host", "error", err)
		}
		return observeAgain
	}
	a.noteSight(seen.Blind)
	a.judgeSelf(seen)
	a.letOut(desired)
	a.tend(ctx, desired, seen)
	a.cells.Blank(*a.image.Load())
	tasks := map[string][]Task{}
	for _, t := range Plan(desired, seen) {
		tasks[t.Instance] = append(tasks[t.Instance], t)
	}
	now, next := time.Now(), a.cfg.Tick
	a.forget(desired, seen)
	for i := range tasks {
		a.life(i)
	}
	for i := range desired {
		a.life(i)
	}
	for i, l := range a.lives {
		w, wanted := desired[i]
		a.noteAlone(i, l, wanted && !w.warm(), seen, now)
		a.noteTrouble(i, l, wanted && w.warm(), seen, now)
		next = min(next, a.dispatch(ctx, i, l, w, tasks[i], seen.Containers[i], now))
		if wanted {
			a.say(i, l, w, seen, tasks[i], now)
		} else {
			a.sayGone(i, l, tasks[i], now)
		}
	}
	select {
	case <-a.ready:
	default:
		close(a.ready)
	}
	return next
}

// noteModules says which sets of modules are named here, and tells when a builder
// leaves its archives here.
func (a *Agent) noteModules() {
	if a.cfg.Modules == nil {
		return
	}
	a.cfg.Modules.Named(a.book.sets())
	if has := a.cfg.Modules.Archives(); has != a.cfg.Host.Archives {
		a.cfg.Host.Archives = has
		if err := a.present(); err != nil {
			a.cfg.Log.Error("cannot tell that there are archives of modules here", "error", err)
		}
	}
}

// openAgain takes up other keys that open secrets, and tells that they are here.
func (a *Agent) openAgain() {
	if !a.book.secrets.again(time.Now()) {
		return
	}
	a.book.reopen()
	a.cfg.Host.Opens = a.book.secrets.opens()
	if err := a.present(); err != nil {
		a.cfg.Log.Error("cannot tell which secrets can be opened here", "error", err)
	}
}

// worked says whether something was done to an instance since its directories
// were last read, or is being done.
func (a *Agent) worked(i string) bool {
	l := a.lives[i]
	if l == nil {
		return true
	}
	was := l.worked
	l.worked = l.cancel != nil
	return was || l.worked
}

func (a *Agent) life(i string) *life {
	if a.lives[i] == nil {
		a.lives[i] = &life{}
	}
	return a.lives[i]
}

// forget drops instances that are neither desired nor there.
func (a *Agent) forget(d Desired, o Observed) {
	if o.Blind != nil {
		return
	}
	there := o.instances()
	gone := func(i string) bool {
		_, wanted := d[i]
		return !wanted && !there[i] && (a.lives[i] == nil || a.lives[i].cancel == nil)
	}
	for i := range a.lives {
		if gone(i) {
			delete(a.lives, i)
			delete(a.observer.answered, i)
			a.presence.Remove(cluster.InstanceKey(a.cfg.Host.Name, i))
		}
	}
}

// noteSight says once when Docker can't be asked, and when it can again.
func (a *Agent) noteSight(blind error) {
	switch {
	case blind != nil && !a.blind:
		a.cfg.Log.Error("containers can't be seen to: what runs goes on as it is", "error", blind)
	case blind == nil && a.blind:
		a.cfg.Log.Info("containers can be seen to again")
	}
	a.blind = blind != nil
}

// noteTrouble counts containers that stopped and sockets that failed by
// themselves, so that what breaks over and over is mended ever more slowly;
// and ends a worker's wait for a cell that has died.
func (a *Agent) noteTrouble(i string, l *life, warm bool, o Observed, now time.Time) {
	l.settle(now)
	_, alive := o.Alive(i)
	if o.Blind != nil {
		alive = l.alive
	}
	died := warm && l.alive && !alive // one that may sleep has perhaps gone to
	refused := false
	if names, err := unitNames(i); err == nil {
		refused = o.Units[names[2]].Active == "failed"
	}
	failed := refused && !l.refused
	l.alive, l.refused = alive, refused
	if l.cancel != nil {
		for _, c := range o.Containers[i] {
			if !c.Running && !l.before[c.ID] {
				l.cancel(errCellGone)
			}
		}
		return
	}
	if died {
		l.stumbled(errCellGone, now)
	}
	if failed {
		l.stumbled(errRefused, now)
	}
}

// lonely is how long an instance that may sleep keeps its cell while no runner
// of its runs: one that goes to sleep says so, unless we were away just then.
const lonely = 15 * time.Second

// noteAlone takes the cell from an instance whose runner has ended without a
// word.
func (a *Agent) noteAlone(i string, l *life, maySleep bool, o Observed, now time.Time) {
	_, alive := o.Alive(i)
	names, err := unitNames(i)
	if !maySleep || !alive || err != nil || o.Units[names[3]].Up() {
		l.alone = time.Time{}
		return
	}
	if l.alone.IsZero() {
		l.alone = now
	}
	if now.Sub(l.alone) > lonely {
		a.cfg.Log.Info("instance sleeps: its runner has ended", "instance", i)
		a.cells.Release(i)
	}
}

// dispatch sets a worker to an instance's tasks, unless one is at it or it is
// too early to try again, and returns when to look at it again.
func (a *Agent) dispatch(ctx context.Context, i string, l *life, w Want, tasks []Task, seen []cells.Container, now time.Time) time.Duration {
	switch {
	case len(tasks) == 0 || l.cancel != nil:
		return a.cfg.Tick
	case now.Before(l.retry):
		return l.retry.Sub(now)
	}
	work, cancel := context.WithCancelCause(ctx)
	l.cancel = cancel
	l.before = map[string]bool{}
	for _, c := range seen {
		l.before[c.ID] = true
	}
	a.work.Go(func() {
		err := a.attempt(work, tasks, w)
		a.send(ctx, func() { a.attempted(i, l, err) })
	})
	return a.cfg.Tick
}

func (a *Agent) attempt(ctx context.Context, tasks []Task, w Want) error {
	select {
	case a.room <- struct{}{}:
		defer func() { <-a.room }()
		return a.executor.run(ctx, tasks, w)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (a *Agent) attempted(i string, l *life, err error) {
	l.cancel(nil)
	l.cancel = nil
	l.worked = true
	if err == nil {
		l.err, l.retry = nil, time.Time{}
		return
	}
	l.failed(err, time.Now())
	a.cfg.Log.Warn("instance is not as it should be, trying again", "instance", i, "error", err, "in", time.Until(l.retry).Round(time.Millisecond))
}

// say reports how a desired instance is.
func (a *Agent) say(i string, l *life, w Want, o Observed, tasks []Task, now time.Time) {
	phase, reason := l.judge(i, w, o, tasks)
	l.enter(phase, reason, now)
	l.told = a.report(i, w, o, l, tasks)
	a.set(cluster.InstanceKey(a.cfg.Host.Name, i), l.told)
}

// sayGone reports an instance that is not desired, for as long as there is
// something left of it to remove. (Its tenant's slice may stay, for others.)
func (a *Agent) sayGone(i string, l *life, tasks []Task, now time.Time) {
	key := cluster.InstanceKey(a.cfg.Host.Name, i)
	tenant, _, err := cluster.ParseInstance(i)
	if err != nil || len(tasks) == 0 && l.cancel == nil {
		a.presence.Remove(key)
		return
	}
	l.enter(cluster.Stopping, "it is not placed here", now)
	l.told.Tenant, l.told.Instance, l.told.Host = tenant, i, a.cfg.Host.Name
	l.told.Phase, l.told.Reason, l.told.Since = l.phase, l.reason, l.since.UTC()
	a.set(key, l.told)
}

func (a *Agent) set(key string, r cluster.Instance) {
	value, err := json.Marshal(r)
	if err != nil {
		a.cfg.Log.Error("cannot report", "key", key, "error", err)
		return
	}
	a.presence.Set(key, value)
}
