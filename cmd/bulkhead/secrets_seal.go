package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
	"bulkhead/internal/sealed"
)

func newSecretsSeal(a *app) *cobra.Command {
	var timeout time.Duration
	c := a.onVault(&cobra.Command{
		Use:   "seal",
		Short: "Seal everything for the key in use that is in plain text, or sealed for another",
		Long: `Seal anew what is in etcd and not sealed for the key in use, and wait until the
scheduler's copies are too. What changes meanwhile is left as it became. It needs
the key that opens it, and changes nothing that tenants notice.`,
		Example: `  bulkhead secrets seal --opening-keys pki/` + ringName,
		Args:    cobra.NoArgs,
	}, func(ctx context.Context, v *vault, _ []string) error {
		n, err := a.sealAll(ctx, v, timeout)
		if err != nil {
			return err
		}
		return a.say(map[string]any{"key": v.sealing.ID, "sealed": n}, func(w io.Writer) {
			fmt.Fprintf(w, "%d values sealed anew; everything is sealed for key %s\n", n, v.sealing.ID)
		})
	})
	c.Flags().DurationVar(&timeout, "timeout", 5*time.Minute, "how long to wait for the scheduler's copies")
	return c
}

// sealAll seals everything for the key in use, and waits until nothing else is
// left.
func (a *app) sealAll(ctx context.Context, v *vault, timeout time.Duration) (n int, err error) {
	if v.lock == nil {
		return 0, fail(exitUsage, "bulkhead secrets use", "nothing says yet what secrets are to be sealed with")
	}
	if err := v.needRing(); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	wrote := etcd.Watch(ctx, v.Client, cluster.AppliedPrefix, cluster.PlacementsPrefix, cluster.ManifestsPrefix)
	<-wrote // as it is
	for {
		more, err := v.sealOnce(ctx)
		if n += more; err != nil {
			return n, err
		}
		u, err := v.usage(ctx)
		if err != nil {
			return n, err
		}
		left := u.others(v.sealing.ID)
		if left == 0 {
			return n, nil
		}
		if _, ok := <-wrote; !ok { // the scheduler's copies follow
			return n, fail(exitLate, "does a scheduler lead (bulkhead status), and has every spec a key that opens? bulkhead secrets status", "%d values are not sealed for key %s within %s", left, v.sealing.ID, timeout)
		}
	}
}

// sealOnce seals what the operator and tenants have written, and the last good
// specs of those whose newest is not.
func (v *vault) sealOnce(ctx context.Context) (n int, err error) {
	for _, prefix := range []string{cluster.TenantsPrefix, cluster.AppliedPrefix, cluster.FunctionsPrefix} {
		err := v.each(ctx, prefix, func(e etcd.Event) error {
			names := strings.Split(strings.TrimPrefix(e.Key, prefix), "/")
			value, err := v.anew(names, e)
			if err != nil || value == nil {
				return err
			}
			_, err = etcd.Commit(ctx, v.Client, nil, []etcd.Op{etcd.Put(e.Key, value), etcd.Unchanged(e.Key, e.Revision)})
			if errors.Is(err, etcd.ErrChanged) {
				return nil // whoever changed it sealed it, or the next look does
			}
			n++
			return err
		})
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// anew is what a key is to hold instead; nil: it is as it should be, or nobody
// can tell what it is.
func (v *vault) anew(names []string, e etcd.Event) ([]byte, error) {
	if len(names) == 2 {
		return v.functionAnew(names[0], names[1], e)
	}
	spec, _ := cluster.DecodeSpec(names[0], e.Value)
	due := false
	for _, k := range spec.Keys {
		due = due || k.Secret != "" || k.Sealed != "" && sealed.KeyID(k.Sealed) != v.lock.ID()
	}
	if !due {
		return nil, nil
	}
	plain, err := v.ring.OpenSpec(names[0], e.Value)
	if err == nil {
		plain, err = v.lock.Spec(names[0], plain)
	}
	if err != nil {
		return nil, fail(exitInvalid, "bulkhead tenant apply one with a good key", "cannot seal %s anew: %w", e.Key, err)
	}
	return plain, nil
}

func (v *vault) functionAnew(tenant, name string, e etcd.Event) ([]byte, error) {
	f, problems := cluster.DecodeFunction(name, e.Value)
	if cluster.Invalid(problems) != nil || len(f.Secrets) == 0 && (f.Sealed == "" || sealed.KeyID(f.Sealed) == v.lock.ID()) {
		return nil, nil
	}
	f, err := v.ring.OpenFunction(tenant, name, f)
	if err == nil {
		f, err = v.lock.Function(tenant, name, f)
	}
	if err != nil {
		return nil, fail(exitInvalid, "deploy it again", "cannot seal %s anew: %w", e.Key, err)
	}
	return json.Marshal(f)
}
