package images

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"bulkhead/agent/archives"
	"bulkhead/cluster"
)

// maxArchive bounds an archive, in bytes.
const maxArchive = 4 << 30

// Engine is where images are: Docker.
type Engine interface {
	HasImage(ctx context.Context, id string) (bool, error)
	Load(ctx context.Context, archive io.Reader) error
	Save(ctx context.Context, id string) (io.ReadCloser, error)
}

// Fetcher gives this host images that it lacks.
type Fetcher struct {
	Engine    Engine
	Image     string        // that File holds
	File      string        // an archive on this host; empty: there is none
	Artifacts string        // URL of the directory with image-<id>.tar, ending in a slash; empty: there is none
	Dial      archives.Dial // nil: no other host is asked
	Log       *slog.Logger
}

// Fetch gives Docker the image that an order names. The error says of each
// source why it was not from there.
func (f Fetcher) Fetch(ctx context.Context, o cluster.Order) error {
	all := f.sources(o)
	if len(all) == 0 {
		return fmt.Errorf("cannot get image %s: there is nowhere to get it from: no host has it, and this one was not told where artifacts are (bulkhead agent --artifacts)", o.Image)
	}
	return archives.Fetch(ctx, "image "+o.Image, all, func(ctx context.Context, archive io.Reader) error { return f.load(ctx, archive, o.Image) }, f.Log)
}

// sources are those that there are, the nearest first.
func (f Fetcher) sources(o cluster.Order) (all []archives.Source) {
	if f.File != "" && o.Image == f.Image {
		all = append(all, archives.File(f.File))
	}
	if f.Dial != nil {
		for _, host := range slices.Sorted(maps.Keys(o.From)) {
			all = append(all, archives.Host(host, o.From[host], "/images/"+o.Image, f.Dial))
		}
	}
	if f.Artifacts != "" {
		all = append(all, archives.URL(f.Artifacts+"image-"+strings.TrimPrefix(o.Image, "sha256:")+".tar"))
	}
	return all
}

func (f Fetcher) load(ctx context.Context, archive io.Reader, image string) error {
	if err := f.Engine.Load(ctx, io.LimitReader(archive, maxArchive)); err != nil {
		return err
	}
	has, err := f.Engine.HasImage(ctx, image)
	if err == nil && !has {
		err = errors.New("what came is another image")
	}
	return err
}
