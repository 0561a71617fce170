package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
	"bulkhead/internal/sealed"
)

func newSecrets(a *app) *cobra.Command {
	c := group("secrets", "Show and change the keys that secrets are sealed for",
		`Secrets in etcd are sealed: tenants' keys and functions' secrets can be read only
with a key from the file --opening-keys, which hosts and the operator have. That
file may hold several keys; one of them is sealed for. "rotate" has another take
its place: add, use, seal and drop are its steps, each of which may be repeated.`,
		`  bulkhead secrets status
  bulkhead secrets rotate --drop`)
	c.AddCommand(newSecretsStatus(a), newSecretsAdd(a), newSecretsUse(a), newSecretsSeal(a), newSecretsDrop(a), newSecretsRotate(a), newSecretsWrap(a))
	return c
}

// vault is a cluster's sealed secrets, and the file of the keys that open them.
type vault struct {
	store
	sealing cluster.Sealing
	lock    *sealed.Lock // nil: nothing is sealed yet
	file    sealed.File
	ring    *sealed.Ring // nil: there is no file
}

// openVault reaches etcd and reads the file, which need not be there.
func (a *app) openVault(ctx context.Context) (*vault, error) {
	s, err := a.open(ctx)
	if err != nil {
		return nil, err
	}
	v := &vault{store: s, file: sealed.File{Path: a.opening, KMS: a.kms}}
	if v.sealing, v.lock, err = s.lockOf(ctx); err == nil {
		if v.file.Path == "" {
			v.file.Path = v.sealing.File
		}
		if v.file.Path != "" {
			v.ring, err = v.file.Read()
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.Close()
		return nil, err
	}
	return v, nil
}

// onVault is a command that needs the file.
func (a *app) onVault(c *cobra.Command, do func(context.Context, *vault, []string) error) *cobra.Command {
	c.RunE = func(cmd *cobra.Command, args []string) error {
		v, err := a.openVault(cmd.Context())
		if err != nil {
			return err
		}
		defer v.Close()
		if v.file.Path == "" {
			return fail(exitUsage, "the operator's is pki/"+ringName+", that of bulkhead up /var/lib/bulkhead/secrets/"+ringName, "name the file of the keys: --opening-keys FILE")
		}
		return do(cmd.Context(), v, args)
	}
	return c
}

// keep writes the file.
func (v *vault) keep(r *sealed.Ring) error {
	if err := os.MkdirAll(filepath.Dir(v.file.Path), 0o700); err != nil {
		return fmt.Errorf("cannot keep the keys that open secrets: %w", err)
	}
	if err := v.file.Write(r); err != nil {
		return err
	}
	v.ring = r
	return nil
}

// needRing says that there is no file.
func (v *vault) needRing() error {
	if v.ring == nil {
		return fail(exitNotFound, "restore it from a backup; bulkhead secrets add makes one for a cluster that has none", "there is no file %s", v.file.Path)
	}
	return nil
}

func newSecretsUse(a *app) *cobra.Command {
	var timeout time.Duration
	c := a.onVault(&cobra.Command{
		Use:   "use [KEY]",
		Short: "Seal for another key of the file from now on",
		Long: `Seal for a key of the file from now on, once every host that is there can open
what is sealed for it. Without KEY it is the one that was added last. What was
sealed before stays as it is: see "bulkhead secrets seal". The first time it has
secrets sealed at all: the scheduler then seals what is in plain text.`,
		Example: `  bulkhead secrets use --opening-keys pki/` + ringName,
		Args:    cobra.MaximumNArgs(1),
	}, func(ctx context.Context, v *vault, args []string) error {
		id, err := v.choose(args)
		if err == nil {
			err = v.use(ctx, id, timeout)
		}
		if err != nil {
			return err
		}
		return a.say(map[string]any{"key": id}, func(w io.Writer) { fmt.Fprintf(w, "secrets are sealed for key %s from now on\n", id) })
	})
	c.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "how long to wait for hosts")
	return c
}

// choose is the key that was meant: of those of the file that secrets are not
// sealed for yet.
func (v *vault) choose(args []string) (string, error) {
	if err := v.needRing(); err != nil {
		return "", err
	}
	ids := v.ring.IDs()
	switch {
	case len(args) == 1 && slices.Contains(ids, args[0]):
		return args[0], nil
	case len(args) == 1:
		return "", fail(exitNotFound, "it has "+strings.Join(ids, " "), "%s has no key %q", v.file.Path, args[0])
	case len(ids) == 1:
		return ids[0], nil
	}
	ids = v.ring.Added()
	return ids[len(ids)-1], nil
}

// use has secrets sealed for a key that all hosts have.
func (v *vault) use(ctx context.Context, id string, timeout time.Duration) error {
	var lacking []string
	if _, ok := v.wait(ctx, timeout, func(w *view) bool { lacking = lacks(w, id); return len(lacking) == 0 }, cluster.HostsPrefix); !ok {
		return fail(exitLate, "give them the file: bulkhead pki pack --host HOST; a host that is of an older release needs a newer one first", "after %s these hosts don't have key %s: %s", timeout, id, strings.Join(lacking, " "))
	}
	r, err := v.ring.Use(id)
	if err != nil {
		return err
	}
	if id != v.ring.First() {
		if err := v.keep(r); err != nil {
			return err
		}
	}
	file := v.sealing.File // only a machine's own is worth telling
	if err := v.putLock(ctx, v.sealing, v.ring, file); err != nil {
		return err
	}
	v.sealing, v.lock, err = v.lockOf(ctx)
	return err
}

// lacks names the hosts that can't open what is sealed for a key.
func lacks(w *view, id string) (hosts []string) {
	under(w, cluster.HostsPrefix, 1, func(names []string, h cluster.Host, _ etcd.Event) {
		if !slices.Contains(h.Opens, id) {
			hosts = append(hosts, names[0])
		}
	})
	slices.Sort(hosts)
	return hosts
}
