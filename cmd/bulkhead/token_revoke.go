package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/spf13/cobra"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// issuersAhead is how far ahead of ours an issuer's clock may be: as much as
// runners forgive.
const issuersAhead = 5 * time.Second

// revoking is what `token revoke` was asked for.
type revoking struct {
	tenant, id, file, kid string
	all                   bool
	timeout               time.Duration
}

func newTokenRevoke(a *app) *cobra.Command {
	var r revoking
	c := &cobra.Command{
		Use:   "revoke TENANT",
		Short: "Have a tenant's tokens refused from now on, on every host",
		Long: `Revoke one token, by its name (jti) or by its text, or all that were issued until
now, and wait until every instance refuses it: the next request with it after this
command has succeeded gets a 401. Requests that are in flight, and WebSockets, go
on. --all also refuses what is issued within the next 5 s, since an issuer's clock
may be ahead. To end a key, and every token of it, take it out of the spec.

One that is given by its text is forgotten once it has expired. A tenant can have
256 revocations; --all takes the place of earlier ones of its kind.`,
		Example: `  bulkhead token revoke acme --jti 5WZ2N6QJ
  bulkhead token revoke acme --token-file leaked.jwt
  bulkhead token revoke acme --all --kid 2026-10`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeTenants,
		RunE: func(cmd *cobra.Command, args []string) error {
			r.tenant = args[0]
			return a.revoke(cmd.Context(), r)
		},
	}
	f := c.Flags()
	f.StringVar(&r.id, "jti", "", "name of the token")
	f.StringVar(&r.file, "token-file", "", "file: the token; - is standard input")
	f.BoolVar(&r.all, "all", false, "all tokens that were issued until now")
	f.StringVar(&r.kid, "kid", "", "of --all: only those that this key has signed, or that name no key")
	f.DurationVar(&r.timeout, "timeout", 15*time.Second, "how long to wait for hosts")
	c.MarkFlagsOneRequired("jti", "token-file", "all")
	c.MarkFlagsMutuallyExclusive("jti", "token-file", "all")
	return c
}

// revocation is what is to be written.
func (a *app) revocation(r revoking, now time.Time) (cluster.Revocation, error) {
	switch {
	case r.kid != "" && !r.all:
		return cluster.Revocation{}, usageError(errors.New("--kid: goes with --all"))
	case r.all:
		return cluster.Revocation{Before: now.Add(issuersAhead).Unix(), KID: r.kid}, nil
	case r.file == "":
		return cluster.Revocation{ID: r.id}, nil
	}
	data, err := a.readInput(r.file)
	if err != nil {
		return cluster.Revocation{}, err
	}
	return ofToken(strings.TrimSpace(string(data)))
}

// ofToken is the revocation of one token. Whether it is any good is not looked
// at: one that is not is refused anyway.
func ofToken(text string) (cluster.Revocation, error) {
	var claims jwt.RegisteredClaims
	if _, _, err := jwt.NewParser().ParseUnverified(text, &claims); err != nil || claims.ExpiresAt == nil {
		return cluster.Revocation{}, fail(exitInvalid, "want a JWT as it was given to its bearer", "the file holds no token that any host would take")
	}
	r := cluster.Revocation{ID: claims.ID, Until: claims.ExpiresAt.Add(issuersAhead).Unix() + 1}
	if r.ID == "" {
		sum := sha256.Sum256([]byte(text[:strings.LastIndexByte(text, '.')]))
		r.Sum = hex.EncodeToString(sum[:])
	}
	return r, nil
}

func (a *app) revoke(ctx context.Context, r revoking) error {
	if err := checkTenant(r.tenant); err != nil {
		return err
	}
	one, err := a.revocation(r, time.Now())
	if err != nil {
		return err
	}
	s, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	if _, revision, err := s.read(ctx, cluster.TenantKey(r.tenant)); err != nil || revision == 0 {
		return orElse(err, noTenant(r.tenant))
	}
	all, err := s.addRevocation(ctx, r.tenant, one)
	if err != nil {
		return err
	}
	hosts, err := s.refusedEverywhere(ctx, r.tenant, one, r.timeout)
	if err != nil {
		return err
	}
	return a.say(map[string]any{"tenant": r.tenant, "revoked": one, "revocations": len(all), "hosts": hosts}, func(w io.Writer) {
		fmt.Fprintf(w, "revoked. Of tenant %s, %s refused on %s\n", r.tenant, one.What(), dash(strings.Join(hosts, " ")))
	})
}

// addRevocation writes one more, whoever else does so at the same time.
func (s store) addRevocation(ctx context.Context, tenant string, one cluster.Revocation) ([]cluster.Revocation, error) {
	key := cluster.RevocationsKey(tenant)
	for {
		old, revision, err := s.read(ctx, key)
		if err != nil {
			return nil, err
		}
		var all []cluster.Revocation
		if revision != 0 {
			if all, err = cluster.DecodeRevocations(old); err != nil {
				return nil, fail(exitInvalid, "mend it, or delete it, which takes back all that were revoked", "%s %w", key, err)
			}
		}
		if all = cluster.Revoke(all, one, time.Now()); len(all) > cluster.MaxRevocations {
			return nil, fail(exitUsage, "bulkhead token revoke "+tenant+" --all refuses all tokens that there are, in one", "tenant %s has %d revocations of tokens that have not expired, the most there can be", tenant, cluster.MaxRevocations)
		}
		data, err := json.Marshal(all)
		if err != nil {
			return nil, err
		}
		_, err = etcd.Commit(ctx, s.Client, nil, []etcd.Op{etcd.Put(key, data), etcd.Unchanged(key, revision)})
		if errors.Is(err, etcd.ErrChanged) {
			continue
		}
		return all, err
	}
}

// refusedEverywhere waits until every instance of a tenant has a revocation in
// force, and returns their hosts.
func (s store) refusedEverywhere(ctx context.Context, tenant string, one cluster.Revocation, timeout time.Duration) (hosts []string, err error) {
	var late []string
	_, ok := s.wait(ctx, timeout, func(v *view) bool {
		hosts, late = nil, nil
		under(v, cluster.PlacementsPrefix, 2, func(n []string, p cluster.Placement, e etcd.Event) {
			if p.Tenant != tenant {
				return
			}
			hosts = append(hosts, n[0])
			seen, _ := get[cluster.Instance](v, cluster.InstanceKey(n[0], n[1]))
			if !slices.ContainsFunc(p.Revoked, func(r cluster.Revocation) bool { return r.Covers(one) }) || seen.Told < e.Revision {
				late = append(late, n[1]+" on "+n[0])
			}
		})
		return len(late) == 0
	}, cluster.PlacementsPrefix, cluster.InstancesPrefix)
	if !ok {
		return nil, fail(exitLate, "does a scheduler lead, and are the hosts there? bulkhead status. A host that is cut off from etcd goes on with what it knows",
			"it is revoked, but after %s not known to be refused by %s", timeout, strings.Join(late, ", "))
	}
	slices.Sort(hosts)
	return slices.Compact(hosts), nil
}
