package agent

import (
	"context"
	"slices"
)

// wellness is what the agent finds of its host by its own checks.
type wellness struct {
	blind   error // Docker can't be asked
	proxy   bool  // the proxy runs, or there is none to run
	stocked bool  // there have been as many blank cells as are always kept
}

// unready says in words why the host should not be counted on yet; "" means
// that it is well. It changes seldom: each change is written to etcd.
func (w wellness) unready() string {
	switch {
	case w.blind != nil:
		return "its Docker Engine does not answer"
	case !w.proxy:
		return "its proxy does not run"
	case !w.stocked:
		return "its blank cells are not ready yet"
	}
	return ""
}

// unseen is the reason until the host was looked at.
const unseen = "its agent has not looked at it yet"

// judgeSelf says in the host's presence how it is.
func (a *Agent) judgeSelf(seen Observed) {
	w := wellness{blind: seen.Blind, proxy: len(a.cfg.Proxy) == 0 || slices.ContainsFunc(a.cfg.Proxy, func(unit string) bool { return seen.Units[unit].Up() }), stocked: a.stocked.Load()}
	reason := w.unready()
	if reason == a.cfg.Host.Unready {
		return
	}
	a.cfg.Host.Unready = reason
	if err := a.present(); err != nil {
		a.cfg.Log.Error("cannot say how this host is", "error", err)
	}
}

// awaitStock notes once that the first blank cells are ready: a host that has
// just booted would wake tenants slowly without them.
func (a *Agent) awaitStock(ctx context.Context) {
	for ctx.Err() == nil {
		err := a.cells.AwaitStock(ctx, *a.image.Load())
		if err == nil {
			a.stocked.Store(true)
			a.poke()
			return
		}
		if ctx.Err() == nil {
			a.cfg.Log.Warn("there are no blank cells yet", "error", err)
		}
	}
}
