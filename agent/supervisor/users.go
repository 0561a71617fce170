package supervisor

import "bulkhead/internal/allot"

// Users of DynamicUser= services, each name with the same number for as long
// as this machine's state is kept.
const (
	firstUser = 470000
	lastUser  = 499999
)

type users struct{ dynamic *allot.Numbers }

func openUsers(path string) (users, error) {
	dynamic, err := allot.Open(path, firstUser, lastUser)
	return users{dynamic}, err
}

// of returns the user and group that a service runs as.
func (u users) of(s serviceSpec) (uid, gid int, err error) {
	if s.User == "" {
		return 0, 0, nil
	}
	if uid, err = lookupUser(s.User); err != nil {
		uid, err = u.dynamic.Of(s.User)
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
