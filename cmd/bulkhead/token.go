package main

import (
	"context"
	"crypto"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/spf13/cobra"

	"bulkhead/cluster"
	"bulkhead/internal/audit"
	"bulkhead/internal/ectx"
)

// grant is what a token is to allow.
type grant struct {
	tenant    string
	functions []string // none: all, and one-off code
	expires   time.Duration
	kid       string
	keyFile   string
	claims    []string
	secrets   []string
	limits    []string
}

func newToken(a *app) *cobra.Command {
	g := grant{}
	c := &cobra.Command{
		Use:   "token TENANT",
		Short: "Sign a token that lets its bearer call a tenant's functions",
		Long: `Sign a JWT with one of the tenant's keys: an HS256 key, whose secret is read
from etcd, or with --key-file the private half of a public key that the spec
names. Without --function the token is good for all functions of the tenant
and for code that comes with the request.`,
		Example: `  bulkhead token acme
  bulkhead token acme --function hello --expires 15m
  bulkhead token acme --limit rate=5 --limit wall=2s
  bulkhead token acme --key-file private.pem --kid idp
  curl -H "Authorization: Bearer $(bulkhead token acme)" http://127.0.0.1:8080/acme/hello`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeTenants,
		RunE: func(cmd *cobra.Command, args []string) error {
			g.tenant = args[0]
			s, err := a.open(cmd.Context())
			if err != nil {
				return err
			}
			defer s.Close()
			token, claims, err := a.sign(cmd.Context(), s, g)
			if err != nil {
				return err
			}
			return a.say(map[string]any{"token": token, "claims": claims}, func(w io.Writer) { fmt.Fprintln(w, token) })
		},
	}
	addGrantFlags(c, &g)
	c.Flags().StringArrayVar(&g.functions, "function", nil, "a function it is good for; may be repeated")
	c.AddCommand(newTokenRevoke(a))
	return c
}

// addGrantFlags adds the flags that all commands which sign share.
func addGrantFlags(c *cobra.Command, g *grant) {
	f := c.Flags()
	f.DurationVar(&g.expires, "expires", time.Hour, "how long it is good for")
	f.StringVar(&g.kid, "kid", "", "the key to sign with; else the first that fits")
	f.StringVar(&g.keyFile, "key-file", "", "PEM file: the private key to sign with")
	f.StringArrayVar(&g.secrets, "secret", nil, "name=value or name=@file: a secret for the function, which the token's bearer can't read; HS256 only; may be repeated")
	f.StringArrayVar(&g.claims, "claim", nil, "name=JSON: a claim more; may be repeated")
	addLimitFlag(c, &g.limits, tokenLimits)
}

// sign makes a token for a grant.
func (a *app) sign(ctx context.Context, s store, g grant) (string, jwt.MapClaims, error) {
	spec, err := s.spec(ctx, g.tenant)
	if err != nil {
		return "", nil, err
	}
	claims, err := g.mapClaims(time.Now())
	if err != nil {
		return "", nil, err
	}
	if g.keyFile == "" {
		if spec.Keys, err = a.openKeys(ctx, s, g.tenant, spec.Keys); err != nil {
			return "", nil, err
		}
	}
	key, private, err := a.signer(spec, g)
	if err != nil {
		return "", nil, err
	}
	if err := g.sealInto(claims, key); err != nil {
		return "", nil, err
	}
	token := jwt.NewWithClaims(jwt.GetSigningMethod(key.Alg), claims)
	token.Header["kid"] = key.KID
	signed, err := token.SignedString(private)
	if err != nil {
		return "", nil, fmt.Errorf("cannot sign with key %q: %w", key.KID, err)
	}
	if err := audit.Say(ctx, s.KV, fmt.Sprintf("issued token %v", claims["jti"]), "tenant "+g.tenant); err != nil {
		return "", nil, fmt.Errorf("cannot note in the audit log that a token is issued: %w", err)
	}
	return signed, claims, nil
}

// sealInto seals the grant's secrets into its claims, if there are any.
func (g grant) sealInto(claims jwt.MapClaims, key cluster.Key) error {
	secrets, err := pairs("secret", g.secrets, true)
	if err != nil || secrets == nil {
		return err
	}
	if key.Secret == "" {
		return fail(exitUsage, "sign with an HS256 key, or give the function the secret: bulkhead function deploy --secret", "secrets are sealed into a token with the secret that signs it; key %q, for %s, has none", key.KID, key.Alg)
	}
	claims[ectx.Claim], err = ectx.Seal(key.Secret, secrets)
	return err
}

func (g grant) mapClaims(now time.Time) (jwt.MapClaims, error) {
	if g.expires < time.Second {
		return nil, usageError(fmt.Errorf("--expires %s: want at least 1s", g.expires))
	}
	claims := jwt.MapClaims{"ten": g.tenant, "iat": now.Unix(), "exp": now.Add(g.expires).Unix(), "jti": rand.Text()}
	for _, function := range g.functions {
		if err := cluster.CheckFunction(function); err != nil {
			return nil, &failure{exitInvalid, err, ""}
		}
	}
	switch len(g.functions) {
	case 0:
	case 1:
		claims["jtn"] = g.functions[0]
	default:
		claims["jtnm"] = g.functions
	}
	limits, err := lowerLimits(g.limits, tokenLimits)
	if err != nil {
		return nil, err
	}
	if limits != nil {
		claims["limits"] = limits
	}
	for _, c := range g.claims {
		name, value, ok := strings.Cut(c, "=")
		var v any
		if !ok || name == "" || json.Unmarshal([]byte(value), &v) != nil {
			return nil, usageError(fmt.Errorf(`--claim %s: want name=JSON, like mb=1 or pctx={"a":"b"}`, c))
		}
		claims[name] = v
	}
	return claims, nil
}

// signer picks the key of the spec to sign with, and what signs for it.
func (a *app) signer(spec cluster.Spec, g grant) (cluster.Key, any, error) {
	var private crypto.Signer
	if g.keyFile != "" {
		var err error
		if private, err = a.readPrivate(g.keyFile); err != nil {
			return cluster.Key{}, nil, err
		}
	}
	for _, k := range spec.Keys {
		if g.kid != "" && k.KID != g.kid {
			continue
		}
		switch {
		case private == nil && k.Alg == "HS256":
			return k, []byte(k.Secret), nil
		case private != nil && k.Alg != "HS256" && belongs(private, k):
			return k, private, nil
		}
	}
	switch {
	case private != nil:
		return cluster.Key{}, nil, fail(exitNotFound, "add its public half to the spec's keys", "no key of tenant %s%s is the public half of %s", g.tenant, named(g.kid), g.keyFile)
	case len(spec.Keys) > 0:
		return cluster.Key{}, nil, fail(exitNotFound, "give the private half of one of its public keys: --key-file", "tenant %s has no HS256 key%s to sign with", g.tenant, named(g.kid))
	}
	return cluster.Key{}, nil, noTenant(g.tenant)
}

func named(kid string) string {
	if kid == "" {
		return ""
	}
	return fmt.Sprintf(" named %q", kid)
}

// belongs says whether the private key is the other half of a spec's key.
func belongs(private crypto.Signer, k cluster.Key) bool {
	public, err := cluster.ParsePublic(k.Alg, k.Public)
	mine, ok := private.Public().(interface{ Equal(crypto.PublicKey) bool })
	return err == nil && ok && mine.Equal(public)
}

func (a *app) readPrivate(file string) (crypto.Signer, error) {
	data, err := a.readInput(file)
	if err != nil {
		return nil, err
	}
	if k, err := jwt.ParseRSAPrivateKeyFromPEM(data); err == nil {
		return k, nil
	}
	if k, err := jwt.ParseECPrivateKeyFromPEM(data); err == nil {
		return k, nil
	}
	if k, err := jwt.ParseEdPrivateKeyFromPEM(data); err == nil {
		if signer, ok := k.(crypto.Signer); ok {
			return signer, nil
		}
	}
	return nil, &failure{exitInvalid, errors.New("cannot read " + file + ": it is no PEM of an RSA, EC or Ed25519 private key"), ""}
}
