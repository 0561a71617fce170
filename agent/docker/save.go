package docker

import (
	"context"
	"fmt"
	"io"
)

// Save returns an image as an archive for [Engine.Load], which the caller
// closes.
func (e *Engine) Save(ctx context.Context, id string) (io.ReadCloser, error) {
	api, err := e.api(ctx)
	if err != nil {
		return nil, err
	}
	archive, err := api.ImageSave(ctx, []string{id})
	if err != nil {
		return nil, fmt.Errorf("cannot save image %.19s: %w", id, err)
	}
	return archive, nil
}
