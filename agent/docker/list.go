package docker

import (
	"context"
	"fmt"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"

	"bulkhead/agent/cells"
)

// List implements [cells.Engine]. It asks the engine only when something
// has happened since it last did, or that was a while ago.
func (e *Engine) List(ctx context.Context) ([]cells.Container, error) {
	if known, ok := e.memory.recall(time.Now()); ok {
		return known, nil
	}
	api, err := e.api(ctx)
	if err != nil {
		return nil, err
	}
	mark := e.memory.mark()
	list, err := api.ContainerList(ctx, container.ListOptions{All: true, Filters: e.mine()})
	if err != nil {
		return nil, fmt.Errorf("cannot list containers: %w", err)
	}
	var cs []cells.Container
	for _, c := range list {
		in, err := api.ContainerInspect(ctx, c.ID)
		if cerrdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("cannot inspect container %.12s: %w", c.ID, err)
		}
		cs = append(cs, observed(in))
	}
	e.memory.keep(cs, mark, time.Now())
	return cs, nil
}

func (e *Engine) mine() filters.Args {
	return filters.NewArgs(filters.Arg("label", LabelHost+"="+e.host))
}

func observed(in container.InspectResponse) cells.Container {
	c := cells.Container{
		ID:      in.ID,
		Cell:    in.Config.Labels[LabelCell],
		Image:   in.Image,
		Running: in.State.Running,
		PID:     in.State.Pid,
		Status:  in.State.Status,
		Limits:  cells.Limits{Memory: in.HostConfig.Memory, CPU: in.HostConfig.NanoCPUs},
	}
	if in.HostConfig.PidsLimit != nil {
		c.Limits.Pids = *in.HostConfig.PidsLimit
	}
	switch {
	case in.State.OOMKilled:
		c.Status = "out of memory"
	case in.State.Error != "":
		c.Status = in.State.Error
	case in.State.Status == "exited":
		c.Status = fmt.Sprintf("exited with code %d", in.State.ExitCode)
	}
	return c
}
