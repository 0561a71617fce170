package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
)

// uids allots each instance a user of its own on this host, for as long as
// the instance is here, kept on disk so that files and processes of one are
// never another's after a restart.
type uids struct {
	path string
	by   map[string]int
}

func openUIDs(path string) (*uids, error) {
	u := &uids{path: path, by: map[string]int{}}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return u, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &u.by)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the users of instances: %w", err)
	}
	return u, nil
}

// of returns the user of an instance, a new one if it has none.
func (u *uids) of(instance string) (int, error) {
	if id, ok := u.by[instance]; ok {
		return id, nil
	}
	taken := map[int]bool{}
	for _, id := range u.by {
		taken[id] = true
	}
	for id := FirstUID; id <= lastUID; id++ {
		if !taken[id] {
			u.by[instance] = id
			return id, u.save()
		}
	}
	return 0, fmt.Errorf("cannot allot a user to %s: all %d are taken", instance, lastUID-FirstUID+1)
}

// freeAll gives back the users of instances of which nothing is left.
func (u *uids) freeAll(gone func(instance string) bool) error {
	before := len(u.by)
	maps.DeleteFunc(u.by, func(i string, _ int) bool { return gone(i) })
	if len(u.by) == before {
		return nil
	}
	return u.save()
}

func (u *uids) save() error {
	data, err := json.Marshal(u.by)
	if err == nil {
		err = writeFile(u.path, data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("cannot keep the users of instances: %w", err)
	}
	return nil
}
