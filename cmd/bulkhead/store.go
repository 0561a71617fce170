package main

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/cluster"
	"bulkhead/internal/audit"
	"bulkhead/internal/etcd"
)

// reachWithin is how long to wait for etcd's first answer.
const reachWithin = 3 * time.Second

// store is etcd, reached.
type store struct{ *clientv3.Client }

// open connects to etcd, or says that nobody answers there. Close it.
func (a *app) open(ctx context.Context) (store, error) {
	cli, err := etcd.Open(a.etcdConfig())
	if err != nil {
		return store{}, usageError(err)
	}
	if err := etcd.Reach(ctx, cli, reachWithin); err != nil {
		cli.Close()
		return store{}, fail(exitUnreachable, "is the cluster up (bulkhead up)? Else name its etcd: --endpoints URL or BULKHEAD_ENDPOINTS",
			"%w", shorten(err))
	}
	cli.KV = audit.Claiming(cli.KV, a.user(), audit.Claim{Says: operator(), With: a.command})
	return store{cli}, nil
}

// user is our user of etcd: the common name of our certificate.
func (a *app) user() string {
	data, err := os.ReadFile(a.cert)
	if block, _ := pem.Decode(data); err == nil && block != nil {
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			return c.Subject.CommonName
		}
	}
	return cluster.RootUser // who everybody is while etcd checks no access
}

// operator is who gives commands, as far as this machine knows.
func operator() string {
	name, machine := "unknown", "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if by := os.Getenv("SUDO_USER"); by != "" {
		name = by + " as " + name
	}
	if h, err := os.Hostname(); err == nil {
		machine = h
	}
	return name + "@" + machine
}

// etcdConfig is how the global flags say to reach etcd.
func (a *app) etcdConfig() etcd.Config {
	endpoints := make([]string, len(a.endpoints))
	for i, e := range a.endpoints {
		if endpoints[i] = strings.TrimSpace(e); !strings.Contains(e, "://") {
			endpoints[i] = "http://" + endpoints[i] // as etcdctl takes it
		}
	}
	return etcd.Config{Endpoints: endpoints, CA: a.ca, Cert: a.cert, Key: a.key}
}

// shorten keeps of an unreachable etcd's error what a person needs.
func shorten(err error) error {
	text, _, _ := strings.Cut(err.Error(), ": context deadline exceeded")
	text, _, _ = strings.Cut(text, ": rpc error")
	return errors.New(text)
}

// read gets one key; revision 0 means that there is none.
func (s store) read(ctx context.Context, key string) (value []byte, revision int64, err error) {
	r, err := s.Get(ctx, key)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot read %s: %w", key, err)
	}
	if len(r.Kvs) == 0 {
		return nil, 0, nil
	}
	return r.Kvs[0].Value, r.Kvs[0].ModRevision, nil
}

// spec reads a tenant's spec as written, or when that is not valid the one in
// force.
func (s store) spec(ctx context.Context, tenant string) (cluster.Spec, error) {
	if err := checkTenant(tenant); err != nil {
		return cluster.Spec{}, err
	}
	var wrong error
	for _, key := range []string{cluster.TenantKey(tenant), cluster.AppliedKey(tenant)} {
		data, revision, err := s.read(ctx, key)
		if err != nil {
			return cluster.Spec{}, err
		}
		if revision == 0 {
			continue
		}
		spec, problems := cluster.DecodeSpec(tenant, data)
		if err = cluster.Invalid(problems); err == nil {
			return spec, nil
		}
		wrong = err
	}
	if wrong != nil {
		return cluster.Spec{}, fail(exitInvalid, "bulkhead tenant apply a valid one", "tenant %s has no valid spec:\n%w", tenant, wrong)
	}
	return cluster.Spec{}, noTenant(tenant)
}

// applied reads a tenant's spec in force; nil when there is none.
func (s store) applied(ctx context.Context, tenant string) (*cluster.Spec, error) {
	data, revision, err := s.read(ctx, cluster.AppliedKey(tenant))
	if err != nil || revision == 0 {
		return nil, err
	}
	spec, _ := cluster.DecodeSpec(tenant, data)
	return &spec, nil
}

func checkTenant(tenant string) error {
	if err := cluster.CheckTenant(tenant); err != nil {
		return &failure{exitInvalid, err, ""}
	}
	return nil
}

func noTenant(tenant string) error {
	return fail(exitNotFound, "bulkhead tenant list shows those there are; bulkhead tenant apply makes one", "there is no tenant %q", tenant)
}

// view is a consistent picture of the keys under some prefixes.
type view struct {
	revision int64
	keys     map[string]etcd.Event
}

func (v *view) take(b etcd.Batch) {
	if b.Snapshot {
		v.keys = map[string]etcd.Event{}
	}
	for _, e := range b.Events {
		if e.Deleted {
			delete(v.keys, e.Key)
		} else {
			v.keys[e.Key] = e
		}
	}
	v.revision = b.Revision
}

// look reads the keys under prefixes, all as of one revision.
func (s store) look(ctx context.Context, prefixes ...string) (*view, error) {
	b, err := etcd.List(ctx, s.Client, prefixes...)
	if err != nil {
		return nil, err
	}
	v := &view{}
	v.take(b)
	return v, nil
}

// wait follows the keys under prefixes until done says so; false when time
// ran out first.
func (s store) wait(ctx context.Context, timeout time.Duration, done func(*view) bool, prefixes ...string) (*view, bool) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	v := &view{}
	for b := range etcd.Watch(ctx, s.Client, prefixes...) {
		if v.take(b); done(v) {
			return v, true
		}
	}
	return v, false
}

// get decodes one key of the view; false when it isn't there.
func get[T any](v *view, key string) (value T, ok bool) {
	e, ok := v.keys[key]
	return value, ok && json.Unmarshal(e.Value, &value) == nil
}

// under returns the parts of all keys of the view below a prefix, with their
// values.
func under[T any](v *view, prefix string, parts int, each func(parts []string, value T, e etcd.Event)) {
	for key, e := range v.keys {
		names, ok := cluster.SplitKey(key, prefix, parts)
		var value T
		if ok && json.Unmarshal(e.Value, &value) == nil {
			each(names, value, e)
		}
	}
}
