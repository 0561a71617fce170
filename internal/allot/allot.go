// Package allot gives names numbers of a range, such as user ids, and keeps on
// disk which name has which.
package allot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"sync"

	"bulkhead/internal/kept"
)

// Numbers is a range and who has which of it. It is safe for use by several
// goroutines of one process.
type Numbers struct {
	path        string
	first, last int

	mu sync.Mutex
	by map[string]int
}

// Open reads what was allotted earlier, if anything, from the file at path.
func Open(path string, first, last int) (*Numbers, error) {
	n := &Numbers{path: path, first: first, last: last, by: map[string]int{}}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return n, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &n.by)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read who has which number: %w", err)
	}
	return n, nil
}

// Of returns a name's number: the lowest that is free, if it has none yet. It
// is on disk when Of returns.
func (n *Numbers) Of(name string) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if id, ok := n.by[name]; ok {
		return id, nil
	}
	taken := map[int]bool{}
	for _, id := range n.by {
		taken[id] = true
	}
	for id := n.first; id <= n.last; id++ {
		if !taken[id] {
			n.by[name] = id
			return id, n.save()
		}
	}
	return 0, fmt.Errorf("cannot allot a number to %s: all %d are taken", name, n.last-n.first+1)
}

// FreeAll takes back the numbers of all names that are gone.
func (n *Numbers) FreeAll(gone func(name string) bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	before := len(n.by)
	maps.DeleteFunc(n.by, func(name string, _ int) bool { return gone(name) })
	if len(n.by) == before {
		return nil
	}
	return n.save()
}

func (n *Numbers) save() error {
	data, err := json.Marshal(n.by)
	if err == nil {
		err = kept.Write(n.path, data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("cannot keep who has which number: %w", err)
	}
	return nil
}
