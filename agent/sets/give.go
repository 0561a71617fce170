package sets

import (
	"context"
	"errors"
	"io"
	"os"

	"bulkhead/agent/archives"
)

// Kind is how a store's sets are given to other hosts.
func Kind(s *Store) archives.Kind {
	return archives.Kind{Path: "sets", Names: setPattern, Giver: giver{s}}
}

type giver struct{ store *Store }

// Has implements [archives.Giver].
func (g giver) Has(_ context.Context, set string) (bool, error) {
	_, err := os.Stat(g.store.Archive(set))
	return err == nil || g.store.Has(set), nil
}

// Give implements [archives.Giver].
func (g giver) Give(ctx context.Context, w io.Writer, set string) error {
	w = until{ctx, w}
	f, err := os.Open(g.store.Archive(set))
	if errors.Is(err, os.ErrNotExist) {
		return g.store.Write(w, set)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// until writes until its context ends.
type until struct {
	context.Context
	io.Writer
}

// Write implements [io.Writer].
func (u until) Write(p []byte) (int, error) {
	if err := u.Err(); err != nil {
		return 0, err
	}
	return u.Writer.Write(p)
}
