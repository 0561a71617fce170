package docker

import (
	"context"
	"fmt"
	"io"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/client"
)

// HasImage implements [cells.Engine].
func (e *Engine) HasImage(ctx context.Context, id string) (bool, error) {
	api, err := e.api(ctx)
	if err != nil {
		return false, err
	}
	_, err = api.ImageInspect(ctx, id)
	if cerrdefs.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("cannot inspect image %.19s: %w", id, err)
	}
	return true, nil
}

// Load loads the images of an archive as "docker save" makes it.
func (e *Engine) Load(ctx context.Context, archive io.Reader) error {
	api, err := e.api(ctx)
	if err != nil {
		return err
	}
	res, err := api.ImageLoad(ctx, archive, client.ImageLoadWithQuiet(true))
	if err != nil {
		return fmt.Errorf("cannot load image: %w", err)
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		return fmt.Errorf("cannot load image: %w", err)
	}
	return nil
}
