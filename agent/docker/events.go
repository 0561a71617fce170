package docker

import (
	"context"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
)

// retryEvents is how long to wait before asking an engine again that isn't
// there.
const retryEvents = time.Second

// follow turns the engine's events into hints until ctx ends. After a gap it
// gives a hint too, since anything may have happened meanwhile.
func (e *Engine) follow(ctx context.Context) {
	want := filters.NewArgs(
		filters.Arg("label", LabelHost+"="+e.host),
		filters.Arg("type", string(events.ContainerEventType)),
		filters.Arg("event", string(events.ActionStart)),
		filters.Arg("event", string(events.ActionDie)),
		filters.Arg("event", string(events.ActionDestroy)),
		filters.Arg("event", string(events.ActionUpdate)),
	)
	for ctx.Err() == nil {
		if api, err := e.api(ctx); err == nil {
			msgs, errs := api.Events(ctx, events.ListOptions{Filters: want})
			e.memory.follow(true)
			e.hint()
			e.relay(ctx, msgs, errs)
			e.memory.follow(false)
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryEvents):
		}
	}
}

func (e *Engine) relay(ctx context.Context, msgs <-chan events.Message, errs <-chan error) {
	for {
		select {
		case <-msgs:
			e.memory.forget()
			e.hint()
		case err := <-errs:
			if ctx.Err() == nil {
				e.log.Warn("lost Docker's events, asking again", "error", err)
			}
			return
		case <-ctx.Done():
			return
		}
	}
}

func (e *Engine) hint() {
	select {
	case e.events <- struct{}{}:
	default:
	}
}
