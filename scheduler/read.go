package scheduler

import (
	"context"
	"fmt"
	"slices"

	"bulkhead/internal/etcd"
)

// Bounds of reading functions: of one request, since a value may be 1.25 MiB,
// and of what is held between two plans.
const (
	readKeys  = 32
	readBytes = 64 << 20
)

// reading is a function's value that is needed.
type reading struct {
	tenant, name string
	revision     int64 // it must be as of this one
}

// read gets the values that the last plan found lacking, as many as may be
// held, and has their tenants planned again.
func (l *loop) read(ctx context.Context) error {
	total := 0
	for keys := range slices.Chunk(sorted(l.model.unread), readKeys) {
		if total >= readBytes {
			break
		}
		found, err := etcd.Read(ctx, l.cli, keys...)
		if err != nil {
			return fmt.Errorf("cannot read functions: %w", err)
		}
		for _, key := range keys {
			e := found[key] // revision 0: it is gone
			l.model.loaded(key, e.Value, e.Revision)
			total += len(e.Value)
		}
	}
	l.model.again()
	return nil
}

// loaded takes a value that was read. One of another revision is none: the
// watch brings what the function has become.
func (s *snapshot) loaded(key string, value []byte, revision int64) {
	want := s.unread[key]
	t := s.tenants[want.tenant]
	if t == nil || t.functions[want.name] == nil {
		return
	}
	if f := t.functions[want.name]; f.revision == want.revision && revision == want.revision {
		f.value, f.loaded = value, true
		s.wantFunction(want.tenant, want.name, f)
	} else if f.revision == want.revision {
		f.awaited = true
	}
}

// again has planned whoever lacked a value; what was not read is asked for
// again.
func (s *snapshot) again() {
	for _, r := range s.unread {
		s.mark(r.tenant)
	}
	clear(s.unread)
}
