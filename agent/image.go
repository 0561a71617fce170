package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"bulkhead/cluster"
	"bulkhead/internal/kept"
)

// stockPatience is how long blank cells of another image may take to be ready.
const stockPatience = 90 * time.Second

// useImage has new instances run an image: once this host has it, blank cells
// are made of it, and when they are ready, the host says that it runs it.
func (a *Agent) useImage(ctx context.Context, o cluster.Order) error {
	if err := a.haveImage(ctx, o); err != nil {
		return err
	}
	// Until then instances of the image before find blank cells of theirs.
	before := a.image.Swap(&o.Image)
	a.poke()
	wait, cancel := context.WithTimeout(ctx, stockPatience)
	defer cancel()
	err := a.cells.AwaitStock(wait, o.Image)
	if err == nil {
		err = kept.Write(imageFile(a.cfg.Host.Paths.State), []byte(o.Image+"\n"), 0o644)
	}
	if err != nil {
		a.image.Store(before)
		a.poke()
		return fmt.Errorf("cannot use image %s: %w", o.Image, err)
	}
	said := make(chan error, 1)
	a.send(ctx, func() {
		a.cfg.Host.Image = o.Image
		said <- a.present()
	})
	select {
	case err := <-said:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// haveImage sees that Docker has the image that an order names.
func (a *Agent) haveImage(ctx context.Context, o cluster.Order) error {
	has, err := a.cfg.Engine.HasImage(ctx, o.Image)
	if err != nil || has {
		return err
	}
	if a.cfg.Fetch == nil {
		return fmt.Errorf("cannot use image %s: Docker lacks it, and this host was not told where to fetch one", o.Image)
	}
	if err := a.cfg.Fetch(ctx, o); err != nil {
		return err
	}
	if has, err = a.cfg.Engine.HasImage(ctx, o.Image); err == nil && !has {
		err = fmt.Errorf("cannot use image %s: it was loaded, and Docker lacks it", o.Image)
	}
	return err
}

// imageFile names the image that the host was last told to run.
func imageFile(state string) string { return filepath.Join(state, "ordered-image") }

// OrderedImage is the image that the host with this state directory was last
// told to run, whatever it was provisioned with; empty: it was told nothing.
func OrderedImage(state string) (string, error) {
	data, err := os.ReadFile(imageFile(state))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("cannot tell which image this host was told to run: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}
