package orders

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"bulkhead/internal/kept"
)

// Door is a file that is there while the host's proxy says that it is leaving.
// It outlives a reboot: a host on its way down never seems ready again before
// it is well.
type Door string

// Close has the proxy say that it is leaving, and returns since when it does.
func (d Door) Close() (since time.Time, err error) {
	info, err := os.Stat(string(d))
	if errors.Is(err, fs.ErrNotExist) {
		if err = kept.Write(string(d), nil, 0o644); err == nil {
			info, err = os.Stat(string(d))
		}
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("cannot tell the proxy that it is leaving: %w", err)
	}
	return info.ModTime(), nil
}

// Open has the proxy say that it takes requests.
func (d Door) Open() error {
	if err := os.Remove(string(d)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot tell the proxy that it stays: %w", err)
	}
	return nil
}
