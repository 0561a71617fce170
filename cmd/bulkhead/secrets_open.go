package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"

	"bulkhead/cluster"
	"bulkhead/internal/sealed"
)

// ringName is the file of the keys that open secrets, in an operator's
// directory and in a host's.
const ringName = "opening-keys.json"

// ringFile is where a cluster of one machine keeps them.
func ringFile(state string) string { return filepath.Join(state, "secrets", ringName) }

// lockOf is what secrets are to be sealed with; nil: they stay in plain text.
func (s store) lockOf(ctx context.Context) (cluster.Sealing, *sealed.Lock, error) {
	var v cluster.Sealing
	data, revision, err := s.read(ctx, cluster.SealingKey)
	if err != nil || revision == 0 {
		return v, nil, err
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return v, nil, fail(exitInvalid, "bulkhead secrets use writes it anew", "cannot read %s: %w", cluster.SealingKey, err)
	}
	lock, err := sealed.ParseLock(v.Lock)
	if err != nil {
		return v, nil, fail(exitInvalid, "bulkhead secrets use writes it anew", "%s: %w", cluster.SealingKey, err)
	}
	return v, lock, nil
}

// ring reads the keys that open secrets: from where a flag says, else from
// where the cluster's own machine, if this is it, keeps them.
func (a *app) ring(v cluster.Sealing) (*sealed.Ring, error) {
	file := a.opening
	if file == "" {
		file = v.File
	}
	if file == "" {
		return nil, fail(exitUsage, "name the file: --opening-keys pki/"+ringName+", or BULKHEAD_OPENING_KEYS", "the keys that open secrets are not in this cluster's etcd")
	}
	r, err := sealed.File{Path: file, KMS: a.kms}.Read()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fail(exitNotFound, "they are on the hosts and in the operator's directory: --opening-keys pki/"+ringName, "%w", err)
	}
	if err != nil {
		return nil, fail(exitInvalid, "", "%w", err)
	}
	return r, nil
}

// openKeys opens a tenant's keys, if any are sealed.
func (a *app) openKeys(ctx context.Context, s store, tenant string, keys []cluster.Key) ([]cluster.Key, error) {
	var r *sealed.Ring
	for _, k := range keys {
		if k.Sealed == "" || r != nil {
			continue
		}
		v, _, err := s.lockOf(ctx)
		if err != nil {
			return nil, err
		}
		if r, err = a.ring(v); err != nil {
			return nil, err
		}
	}
	open, err := r.OpenKeys(tenant, keys)
	if err != nil {
		return nil, fail(exitInvalid, "bulkhead secrets status shows which keys open what", "%w", err)
	}
	return open, nil
}

// openFunction opens a function's secrets, if they are sealed.
func (a *app) openFunction(v cluster.Sealing, tenant, name string, f cluster.Function) (cluster.Function, error) {
	if f.Sealed == "" {
		return f, nil
	}
	r, err := a.ring(v)
	if err != nil {
		return f, err
	}
	return r.OpenFunction(tenant, name, f)
}

// sealSpec returns the spec as it is to be written, its secrets sealed if
// there is something to seal them with, and whether what is there says the
// same already.
func (a *app) sealSpec(ctx context.Context, s store, tenant string, old, data []byte) (spec []byte, same bool, err error) {
	v, lock, err := s.lockOf(ctx)
	if err != nil {
		return nil, false, err
	}
	now, _ := cluster.DecodeSpec(tenant, data)
	was, problems := cluster.DecodeSpec(tenant, old)
	if old != nil && cluster.Invalid(problems) == nil && (lock == nil || !sealed.PlainSpec(was)) {
		if r, err := a.ring(v); err == nil {
			if open, err := r.OpenKeys(tenant, was.Keys); err == nil {
				was.Keys = open
			}
		}
		if reflect.DeepEqual(was, now) {
			return data, true, nil
		}
	}
	if lock == nil || !sealed.PlainSpec(now) {
		return data, false, nil
	}
	spec, err = lock.Spec(tenant, data)
	return spec, false, err
}

// keepRing makes the keys that open a cluster's secrets, if there are none, and
// says in etcd what to seal with.
func keepRing(ctx context.Context, s store, file sealed.File) (*sealed.Ring, error) {
	v, _, err := s.lockOf(ctx)
	if err != nil {
		return nil, err
	}
	r, err := file.Read()
	if errors.Is(err, fs.ErrNotExist) {
		if v.ID != "" {
			return nil, fail(exitNotFound, "restore it from a backup; or, to write every tenant's and function's secrets anew, delete "+cluster.SealingKey+" from etcd",
				"secrets in etcd are sealed for key %s, and %s is gone", v.ID, file.Path)
		}
		if r, err = sealed.NewRing(); err == nil {
			err = os.MkdirAll(filepath.Dir(file.Path), 0o700)
		}
		if err == nil {
			err = file.Write(r)
		}
	}
	if err != nil {
		return nil, err
	}
	return r, s.putLock(ctx, v, r, file.Path)
}

// putLock says in etcd what to seal with from now on, unless it is there.
func (s store) putLock(ctx context.Context, old cluster.Sealing, r *sealed.Ring, file string) error {
	if old.ID == r.First() && old.File == file {
		return nil
	}
	lock, err := r.Lock()
	if err != nil {
		return err
	}
	data, err := json.Marshal(cluster.Sealing{ID: r.First(), Lock: lock, File: file})
	if err != nil {
		return err
	}
	if _, err := s.Put(ctx, cluster.SealingKey, string(data)); err != nil {
		return fmt.Errorf("cannot say what secrets are to be sealed with: %w", err)
	}
	return nil
}
