package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/pkg/stdcopy"
)

// LogOptions say which lines of a container to read.
type LogOptions struct {
	Tail   int    // the last so many; 0: all that are kept
	Since  string // RFC 3339, or a duration before now like 10m; empty: from the first
	Follow bool   // go on with lines as they come, until the context ends
}

// Logs copies what a container of this host has written to w, standard output
// and standard error alike.
func (e *Engine) Logs(ctx context.Context, name string, o LogOptions, w io.Writer) error {
	tail := "all"
	if o.Tail > 0 {
		tail = strconv.Itoa(o.Tail)
	}
	api, err := e.api(ctx)
	if err != nil {
		return err
	}
	stream, err := api.ContainerLogs(ctx, name, container.LogsOptions{
		ShowStdout: true, ShowStderr: true, Tail: tail, Since: o.Since, Follow: o.Follow,
	})
	if err != nil {
		return fmt.Errorf("cannot read the logs of %s: %w", name, err)
	}
	defer stream.Close()
	if _, err := stdcopy.StdCopy(w, w, stream); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("cannot read the logs of %s: %w", name, err)
	}
	return nil
}

// OfTenant returns the names of a tenant's instances that have a container on
// this engine, whichever host's agent made it.
func (e *Engine) OfTenant(ctx context.Context, tenant string) ([]string, error) {
	api, err := e.api(ctx)
	if err != nil {
		return nil, err
	}
	list, err := api.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", LabelTenant+"="+tenant))})
	if err != nil {
		return nil, fmt.Errorf("cannot list containers: %w", err)
	}
	var names []string
	for _, c := range list {
		names = append(names, c.Labels[LabelInstance])
	}
	slices.Sort(names)
	return names, nil
}
