package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
)

// Users of DynamicUser= services, each name with the same number for as long
// as this machine's state is kept.
const (
	firstUser = 470000
	lastUser  = 499999
)

type users struct {
	mu   sync.Mutex
	path string
	by   map[string]int
}

func openUsers(path string) (*users, error) {
	u := &users{path: path, by: map[string]int{}}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return u, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &u.by)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read users of services: %w", err)
	}
	return u, nil
}

// of returns the user and group that a service runs as.
func (u *users) of(s serviceSpec) (uid, gid int, err error) {
	if s.User == "" {
		return 0, 0, nil
	}
	if uid, err = lookupUser(s.User); err != nil {
		uid, err = u.dynamic(s.User)
	}
	if err != nil {
		return 0, 0, err
	}
	if s.Group == "" {
		return uid, uid, nil
	}
	gid, err = lookupGroup(s.Group)
	return uid, gid, err
}

func (u *users) dynamic(name string) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if id, ok := u.by[name]; ok {
		return id, nil
	}
	taken := map[int]bool{}
	for _, id := range u.by {
		taken[id] = true
	}
	for id := firstUser; id <= lastUser; id++ {
		if !taken[id] {
			u.by[name] = id
			return id, u.save()
		}
	}
	return 0, fmt.Errorf("cannot allot a user to %s: all are taken", name)
}

func (u *users) save() error {
	data, err := json.Marshal(u.by)
	if err == nil {
		err = writeFile(u.path, data)
	}
	if err != nil {
		return fmt.Errorf("cannot keep users of services: %w", err)
	}
	return nil
}
