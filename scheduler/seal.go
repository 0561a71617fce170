package scheduler

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"bulkhead/cluster"
	"bulkhead/internal/audit"
	"bulkhead/internal/etcd"
	"bulkhead/internal/sealed"
)

// Whoever registers a tenant with etcdctl writes its secrets in plain text. The
// leader replaces them by sealed ones before it plans with them, so that no
// other key ever holds them. It can't open what it sealed.

// Bounds of sealing: keys between two plans, and transactions at a time.
const (
	sealAtOnce   = 1000
	sealInFlight = 8
)

// plain is a key whose value holds a secret in plain text.
type plain struct {
	tenant, function string // function: "" for a spec
	applied          bool   // the spec is the last good one
	overtaken        bool   // it has changed since: the watch will bring it
	revision         int64
	value            []byte
}

// toSeal are the keys of plain secrets that can be sealed now.
func (s *snapshot) toSeal() (keys []string) {
	for _, key := range sorted(s.plain) {
		if !s.plain[key].overtaken {
			keys = append(keys, key)
		}
	}
	return keys[:min(len(keys), sealAtOnce)]
}

func (s *snapshot) seeSealing(e etcd.Event) {
	if e.Key != cluster.SealingKey {
		return
	}
	var v cluster.Sealing
	if e.Deleted || json.Unmarshal(e.Value, &v) != nil {
		s.lock = nil
		return
	}
	lock, err := sealed.ParseLock(v.Lock)
	if err != nil {
		return // the last good one stays
	}
	s.lock = lock
	for name, t := range s.tenants {
		s.wantSpec(name, t)
		s.wantApplied(name, t)
	}
}

// sealable says whether a spec has plain secrets that can be sealed: where the
// keys themselves are wrong, what is wrong with them would be hidden.
func (r *specRecord) sealable() bool {
	return r != nil && sealed.PlainSpec(r.spec) && !slices.ContainsFunc(r.problems, func(p cluster.Problem) bool {
		return !p.Warning && (p.Path == "" || strings.HasPrefix(p.Path, "keys"))
	})
}

// wantSpec has a spec sealed that is not.
func (s *snapshot) wantSpec(name string, t *tenant) {
	key := cluster.TenantKey(name)
	delete(s.plain, key)
	if s.lock != nil && t.observed.sealable() {
		s.plain[key] = plain{tenant: name, revision: t.observed.revision, value: []byte(t.observed.raw)}
	}
}

// wantApplied is wantSpec for the last good one, where it is not overwritten
// soon by the one observed.
func (s *snapshot) wantApplied(name string, t *tenant) {
	key := cluster.AppliedKey(name)
	delete(s.plain, key)
	if s.lock != nil && t.applied.sealable() && (t.observed == nil || t.observed.err != nil) {
		s.plain[key] = plain{tenant: name, applied: true, value: []byte(t.applied.raw)}
	}
}

// wantFunction has a function sealed that is not; it is not copied until then.
func (s *snapshot) wantFunction(tenant, name string, f *function) {
	key := cluster.FunctionKey(tenant, name)
	delete(s.plain, key)
	if s.lock == nil || f.unsealed || !bytes.Contains(f.value, []byte(`"secrets"`)) {
		return
	}
	if v, problems := cluster.DecodeFunction(name, f.value); cluster.Invalid(problems) == nil && len(v.Secrets) > 0 {
		s.plain[key] = plain{tenant: tenant, function: name, revision: f.revision, value: f.value}
		f.value, f.loaded, f.awaited = nil, false, true
	}
}

// unsealed says whether a tenant's spec is to be sealed before anything is
// planned by it.
func (s *snapshot) unsealed(t *tenant) bool {
	_, waits := s.plain[cluster.TenantKey(t.name)]
	return waits
}

// placedKeys are a spec's keys as a placement has them.
func placedKeys(keys []cluster.Key) []cluster.Key {
	placed := slices.Clone(keys)
	for i, k := range placed {
		if k.Sealed != "" {
			placed[i].Alg = cluster.SealedAlg
		}
	}
	return placed
}

// sealing says what there is to know about how the tenant's secrets are kept.
func (t *tenant) sealing() []string {
	switch {
	case t.unrevoked != "":
		return []string{t.unrevoked}
	case t.unsealable != "":
		return []string{t.unsealable}
	case t.sealed != 0 && t.sealed == t.observed.revision:
		return []string{"keys: a secret was written in plain text, and has been sealed since; etcd keeps the plain one in its history until it is compacted: bulkhead tenant apply seals before it writes"}
	}
	return nil
}

// sealedValue is what a key is to hold.
func sealedValue(l *sealed.Lock, p plain) ([]byte, error) {
	if p.function == "" {
		return l.Spec(p.tenant, p.value)
	}
	f, problems := cluster.DecodeFunction(p.function, p.value)
	if err := cluster.Invalid(problems); err != nil {
		return nil, err
	}
	f, err := l.Function(p.tenant, p.function, f)
	if err != nil {
		return nil, err
	}
	return json.Marshal(f)
}

// seal replaces plain secrets. One that has changed meanwhile is left to the
// watch, which brings what it has become; one that can't be sealed is used as
// it is, and said.
func (l *loop) seal(ctx context.Context) error {
	keys := l.model.toSeal()
	results := make([]error, len(keys))
	revisions := make([]int64, len(keys))
	var work sync.WaitGroup
	room := make(chan struct{}, sealInFlight)
	for i, key := range keys {
		room <- struct{}{}
		work.Go(func() {
			defer func() { <-room }()
			revisions[i], results[i] = l.sealOne(ctx, key, l.model.plain[key])
		})
	}
	work.Wait()
	for i, key := range keys {
		if errors.Is(results[i], etcd.ErrAmbiguous) || ctx.Err() != nil {
			return fmt.Errorf("cannot seal what is in plain text: %w", results[i])
		}
		if results[i] != nil && !errors.Is(results[i], etcd.ErrChanged) {
			l.Log.Warn("a secret stays in plain text", "key", key, "error", results[i])
		}
		l.model.sealedOne(key, revisions[i], results[i])
		l.wrote = max(l.wrote, revisions[i])
	}
	return nil
}

func (l *loop) sealOne(ctx context.Context, key string, p plain) (int64, error) {
	value, err := sealedValue(l.model.lock, p)
	if err != nil {
		return 0, err
	}
	group := []etcd.Op{
		etcd.Put(key, value), etcd.Unchanged(key, p.revision),
		audit.Claim{With: "scheduler: seals what was in plain text"}.Op(cluster.SchedulerUser),
	}
	if p.applied {
		group = group[:1] // ours, and nobody else's to change
	}
	return etcd.Commit(ctx, l.cli, &l.fence, group)
}

// sealedOne takes in what became of a plain secret.
func (s *snapshot) sealedOne(key string, revision int64, err error) {
	p, t := s.plain[key], s.tenants[s.plain[key].tenant]
	if errors.Is(err, etcd.ErrChanged) {
		p.overtaken = true
		s.plain[key] = p
		return
	}
	delete(s.plain, key)
	if t == nil {
		return
	}
	s.mark(p.tenant)
	f := t.functions[p.function]
	switch {
	case err == nil && p.function == "" && !p.applied:
		t.sealed = revision
	case err != nil && p.function == "":
		t.unsealable = fmt.Sprintf("its secret stays in plain text, because it can't be sealed: %v", err)
	case err != nil && f != nil:
		f.unsealed, f.awaited = true, false
	}
}
