package sealed

import (
	"fmt"
	"os"

	"bulkhead/internal/kept"
)

// ReadRing reads a ring's file. Its error wraps fs.ErrNotExist when there is
// none. A file that others than its owner may read is refused.
func ReadRing(path string) (*Ring, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the keys that open secrets: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("cannot use the keys in %s: its mode is %o, so others can read them; want 600 (chmod 600 %s)", path, mode, path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the keys that open secrets: %w", err)
	}
	r, err := decode(data)
	if err != nil {
		return nil, fmt.Errorf("cannot use the keys in %s: it %w", path, err)
	}
	return r, nil
}

// WriteRing replaces a ring's file, in one step, with mode 0600.
func WriteRing(path string, r *Ring) error {
	data, err := r.encode()
	if err == nil {
		err = kept.Write(path, data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("cannot keep the keys that open secrets: %w", err)
	}
	return nil
}
