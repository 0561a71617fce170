package sets

import (
	"context"
	"io"

	"bulkhead/agent/archives"
)

// Kind is how a store's sets are given to other hosts.
func Kind(s *Store) archives.Kind {
	return archives.Kind{Path: "sets", Names: setPattern, Giver: giver{s}}
}

type giver struct{ store *Store }

// Has implements [archives.Giver].
func (g giver) Has(_ context.Context, set string) (bool, error) { return g.store.Has(set), nil }

// Give implements [archives.Giver].
func (g giver) Give(ctx context.Context, w io.Writer, set string) error {
	return g.store.Write(until{ctx, w}, set)
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
