package images

import (
	"context"
	"io"
	"regexp"

	"bulkhead/agent/archives"
)

var imageID = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// Kind is how an engine's images are given to other hosts.
func Kind(e Engine) archives.Kind {
	return archives.Kind{Path: "images", Names: imageID, Giver: giver{e}}
}

type giver struct{ engine Engine }

// Has implements [archives.Giver].
func (g giver) Has(ctx context.Context, id string) (bool, error) { return g.engine.HasImage(ctx, id) }

// Give implements [archives.Giver].
func (g giver) Give(ctx context.Context, w io.Writer, id string) error {
	archive, err := g.engine.Save(ctx, id)
	if err != nil {
		return err
	}
	defer archive.Close()
	_, err = io.Copy(w, archive)
	return err
}
