package etcd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"go.etcd.io/etcd/api/v3/authpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Grant is a permission on one key (End empty) or on those from Key to before
// End.
type Grant struct {
	Key, End string
	Write    bool // as well as reading
}

// Below grants all keys with a prefix.
func Below(prefix string, write bool) Grant {
	return Grant{prefix, clientv3.GetPrefixRangeEnd(prefix), write}
}

// rootUser is etcd's own administrator: a user and a role of this name must be
// there before access can be checked at all.
const rootUser = "root"

// AccessChange is what [SetAccess] did.
type AccessChange struct {
	Added, Changed, Removed []string // users, sorted
	Enabled                 bool     // until now everybody could do everything
}

// SetAccess makes etcd's users what is wanted: each with a role of its own
// name, no password (a client certificate's common name is who one is), and
// exactly these grants. Users that are not wanted lose everything, root
// excepted. Then it has access checked from now on. It can be run again at any
// time, and goes on where it was interrupted; a user that stays keeps what it
// may do throughout.
func SetAccess(ctx context.Context, cli *clientv3.Client, want map[string][]Grant) (AccessChange, error) {
	s := &accessSetter{cli: cli}
	err := s.set(ctx, want)
	slices.Sort(s.change.Added)
	slices.Sort(s.change.Changed)
	slices.Sort(s.change.Removed)
	if err != nil {
		return s.change, fmt.Errorf("cannot set who may do what in etcd: %w", err)
	}
	return s.change, nil
}

type accessSetter struct {
	cli    *clientv3.Client
	change AccessChange
}

func (s *accessSetter) set(ctx context.Context, want map[string][]Grant) error {
	users, err := s.cli.UserList(ctx)
	if err != nil {
		return fmt.Errorf("cannot list users: %w", err)
	}
	roles, err := s.cli.RoleList(ctx)
	if err != nil {
		return fmt.Errorf("cannot list roles: %w", err)
	}
	for _, name := range users.Users {
		if _, ok := want[name]; !ok && name != rootUser {
			if _, err := s.cli.UserDelete(ctx, name); err != nil {
				return fmt.Errorf("cannot remove user %s: %w", name, err)
			}
			s.change.Removed = append(s.change.Removed, name)
		}
	}
	for _, name := range roles.Roles {
		if _, ok := want[name]; !ok && name != rootUser {
			if _, err := s.cli.RoleDelete(ctx, name); err != nil {
				return fmt.Errorf("cannot remove role %s: %w", name, err)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		known := known{slices.Contains(users.Users, name), slices.Contains(roles.Roles, name)}
		if err := s.user(ctx, name, want[name], known); err != nil {
			return err
		}
	}
	return s.enable(ctx)
}

// known says what of a user is there.
type known struct{ user, role bool }

// user makes one user what it should be.
func (s *accessSetter) user(ctx context.Context, name string, want []Grant, known known) error {
	changed, err := s.role(ctx, name, want, known.role)
	if err != nil {
		return err
	}
	if !known.user {
		if err := s.addUser(ctx, name); err != nil {
			return err
		}
		s.change.Added = append(s.change.Added, name)
	} else if changed {
		s.change.Changed = append(s.change.Changed, name)
	}
	return s.giveRole(ctx, name)
}

func (s *accessSetter) addUser(ctx context.Context, name string) error {
	_, err := s.cli.UserAddWithOptions(ctx, name, "", &clientv3.UserAddOptions{NoPassword: true})
	if err != nil && !errors.Is(err, rpctypes.ErrUserAlreadyExist) {
		return fmt.Errorf("cannot add user %s: %w", name, err)
	}
	return nil
}

// giveRole gives a user the role of its name, and takes all others.
func (s *accessSetter) giveRole(ctx context.Context, name string) error {
	has, err := s.cli.UserGet(ctx, name)
	if err != nil {
		return fmt.Errorf("cannot read user %s: %w", name, err)
	}
	if !slices.Contains(has.Roles, name) {
		if _, err := s.cli.UserGrantRole(ctx, name, name); err != nil {
			return fmt.Errorf("cannot give user %s its role: %w", name, err)
		}
	}
	for _, role := range has.Roles {
		if role != name {
			if _, err := s.cli.UserRevokeRole(ctx, name, role); err != nil {
				return fmt.Errorf("cannot take role %s from user %s: %w", role, name, err)
			}
		}
	}
	return nil
}

// role makes a role's grants what they should be, and reports whether they
// were something else. What is new is granted before what is old is revoked.
func (s *accessSetter) role(ctx context.Context, name string, want []Grant, known bool) (changed bool, err error) {
	if !known {
		if _, err := s.cli.RoleAdd(ctx, name); err != nil {
			return false, fmt.Errorf("cannot add role %s: %w", name, err)
		}
	}
	has, err := s.cli.RoleGet(ctx, name)
	if err != nil {
		return false, fmt.Errorf("cannot read role %s: %w", name, err)
	}
	old := map[Grant]bool{}
	for _, p := range has.Perm {
		old[Grant{string(p.Key), string(p.RangeEnd), p.PermType == authpb.READWRITE}] = p.PermType != authpb.WRITE
	}
	kept := map[[2]string]bool{}
	for _, g := range want {
		kept[[2]string{g.Key, g.End}] = true
		if old[g] {
			continue
		}
		changed = true
		kind := clientv3.PermissionType(clientv3.PermRead)
		if g.Write {
			kind = clientv3.PermissionType(clientv3.PermReadWrite)
		}
		if _, err := s.cli.RoleGrantPermission(ctx, name, g.Key, g.End, kind); err != nil {
			return changed, fmt.Errorf("cannot let role %s at %s: %w", name, g.Key, err)
		}
	}
	for g := range old {
		if kept[[2]string{g.Key, g.End}] {
			continue
		}
		changed = true
		if _, err := s.cli.RoleRevokePermission(ctx, name, g.Key, g.End); err != nil {
			return changed, fmt.Errorf("cannot keep role %s from %s: %w", name, g.Key, err)
		}
	}
	return changed, nil
}

// enable has access checked, with a root that may do everything.
func (s *accessSetter) enable(ctx context.Context) error {
	status, err := s.cli.AuthStatus(ctx)
	if err != nil {
		return fmt.Errorf("cannot ask whether access is checked: %w", err)
	}
	if status.Enabled {
		return nil
	}
	if _, err := s.cli.RoleAdd(ctx, rootUser); err != nil && !errors.Is(err, rpctypes.ErrRoleAlreadyExist) {
		return fmt.Errorf("cannot add role %s: %w", rootUser, err)
	}
	if err := s.addUser(ctx, rootUser); err != nil {
		return err
	}
	if err := s.giveRole(ctx, rootUser); err != nil {
		return err
	}
	if _, err := s.cli.AuthEnable(ctx); err != nil {
		return fmt.Errorf("cannot have access checked: %w", err)
	}
	s.change.Enabled = true
	return nil
}
