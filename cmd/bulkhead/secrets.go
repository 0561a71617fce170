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

func newSecretsAdd(a *app) *cobra.Command {
	return a.onVault(&cobra.Command{
		Use:   "add",
		Short: "Add a key to the file; nothing is sealed for it yet",
		Long: `Add a key to the file --opening-keys, or make the file. Hosts need the file before
the key can be used: "bulkhead pki pack" has it. They take it up within seconds,
without a restart.`,
		Example: `  bulkhead secrets add --opening-keys pki/` + ringName,
		Args:    cobra.NoArgs,
	}, func(_ context.Context, v *vault, _ []string) error {
		id, err := v.add()
		if err != nil {
			return err
		}
		return a.say(map[string]any{"key": id, "file": v.file}, func(w io.Writer) { fmt.Fprintf(w, "key %s added to %s\n", id, v.file.Path) })
	})
}

func (v *vault) add() (id string, err error) {
	if v.ring == nil && v.lock != nil {
		return "", v.needRing() // another file would open nothing
	}
	if v.ring == nil {
		r, err := sealed.NewRing()
		if err != nil {
			return "", err
		}
		return r.First(), v.keep(r)
	}
	r, id, err := v.ring.Add()
	if err != nil {
		return "", err
	}
	return id, v.keep(r)
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

func newSecretsDrop(a *app) *cobra.Command {
	return a.onVault(&cobra.Command{
		Use:   "drop KEY",
		Short: "Remove a key from the file that nothing is sealed for any more",
		Long: `Remove a key from the file, if nothing in etcd is sealed for it. Hosts keep it
until they are given the file anew. A backup of etcd from before needs the key
that its secrets are sealed for: keep the old file as long as such backups.`,
		Example: `  bulkhead secrets drop 1f0c2a94 --opening-keys pki/` + ringName,
		Args:    cobra.ExactArgs(1),
	}, func(ctx context.Context, v *vault, args []string) error {
		if err := v.drop(ctx, args[0]); err != nil {
			return err
		}
		return a.say(map[string]any{"dropped": args[0]}, func(w io.Writer) { fmt.Fprintf(w, "key %s dropped from %s\n", args[0], v.file.Path) })
	})
}

func (v *vault) drop(ctx context.Context, id string) error {
	if _, err := v.choose([]string{id}); err != nil {
		return err
	}
	u, err := v.usage(ctx)
	switch n := u.Keys[id]; {
	case err != nil:
		return err
	case id == v.sealing.ID || id == v.ring.First():
		return fail(exitUsage, "bulkhead secrets use another first", "secrets are sealed for key %s", id)
	case n > 0:
		return fail(exitUsage, "bulkhead secrets seal seals them anew", "%d values in etcd are sealed for key %s", n, id)
	}
	r, err := v.ring.Drop(id)
	if err != nil {
		return err
	}
	return v.keep(r)
}

func newSecretsRotate(a *app) *cobra.Command {
	var timeout time.Duration
	var drop bool
	c := a.onVault(&cobra.Command{
		Use:   "rotate",
		Short: "Have another key take the place of the one that secrets are sealed for",
		Long: `Add a key, wait until all hosts have it, seal for it, and seal everything anew.
With --drop remove the others from the file when nothing is sealed for them. No
instance restarts. Interrupted, it goes on where it was when it is run again. In a
cluster of several hosts give them the file while it waits: "bulkhead pki pack".`,
		Example: `  bulkhead secrets rotate --drop
  bulkhead secrets rotate --opening-keys pki/` + ringName + ` --timeout 1h`,
		Args: cobra.NoArgs,
	}, func(ctx context.Context, v *vault, _ []string) error { return a.rotate(ctx, v, timeout, drop) })
	c.Flags().DurationVar(&timeout, "timeout", 5*time.Minute, "how long to wait for hosts, and for the scheduler")
	c.Flags().BoolVar(&drop, "drop", false, "remove the old keys from the file")
	return c
}

func (a *app) rotate(ctx context.Context, v *vault, timeout time.Duration, drop bool) error {
	if err := v.needRing(); err != nil {
		return err
	}
	id := ""
	if added := v.ring.Added(); added[len(added)-1] != v.sealing.ID { // begun before
		id = added[len(added)-1]
	} else if next, err := v.add(); err != nil {
		return err
	} else {
		id = next
		a.note("key %s added to %s", id, v.file.Path)
	}
	if err := v.use(ctx, id, timeout); err != nil {
		return err
	}
	a.note("secrets are sealed for key %s from now on", id)
	n, err := a.sealAll(ctx, v, timeout)
	if err != nil {
		return err
	}
	dropped := []string{}
	for _, old := range v.ring.IDs() {
		if !drop || old == id {
			continue
		}
		if err := v.drop(ctx, old); err != nil {
			return err
		}
		dropped = append(dropped, old)
	}
	return a.say(map[string]any{"key": id, "sealed": n, "dropped": dropped}, func(w io.Writer) {
		fmt.Fprintf(w, "%d values sealed anew for key %s\n", n, id)
		for _, old := range dropped {
			fmt.Fprintf(w, "key %s dropped: keep its file as long as backups of etcd from before\n", old)
		}
	})
}

func newSecretsWrap(a *app) *cobra.Command {
	return a.onVault(&cobra.Command{
		Use:   "wrap",
		Short: "Have a key management service wrap the file of the keys",
		Long: `Replace the file --opening-keys, which is in plain text or wrapped already, by one
that opens only with the key management service behind --kms. The plug-in at that
socket speaks what Kubernetes' KMS plug-ins do (KMS v2). Hosts ask theirs whenever
their agent starts, or is given another file.`,
		Example: `  bulkhead secrets wrap --opening-keys pki/` + ringName + ` --kms /run/kms/plugin.sock`,
		Args:    cobra.NoArgs,
	}, func(_ context.Context, v *vault, _ []string) error {
		if err := v.needRing(); err != nil {
			return err
		}
		if v.file.KMS == "" {
			return fail(exitUsage, "", "name the plug-in's socket: --kms SOCKET")
		}
		if err := v.keep(v.ring); err != nil {
			return err
		}
		return a.say(map[string]any{"file": v.file.Path, "kms": v.file.KMS}, func(w io.Writer) {
			fmt.Fprintf(w, "%s is wrapped; copies of it from before are not\n", v.file.Path)
		})
	})
}

// beginSealing has secrets sealed in a cluster where none are yet, if all hosts
// that are there can open them. It returns the key that they are sealed for, if
// that is new.
func (a *app) beginSealing(ctx context.Context, s store) (string, error) {
	sealing, lock, err := s.lockOf(ctx)
	switch {
	case err != nil:
		return "", err
	case lock != nil:
		return "", nil
	case a.opening == "":
		a.note("secrets are kept in plain text in etcd; give --opening-keys pki/%s to have them sealed", ringName)
		return "", nil
	}
	v := &vault{store: s, sealing: sealing, file: sealed.File{Path: a.opening, KMS: a.kms}}
	if v.ring, err = v.file.Read(); err != nil {
		return "", fail(exitNotFound, "bulkhead secrets add makes one", "%w", err)
	}
	w, err := s.look(ctx, cluster.HostsPrefix)
	if err != nil {
		return "", err
	}
	if hosts := lacks(w, v.ring.First()); len(hosts) > 0 {
		a.note("secrets stay in plain text in etcd: these hosts could not open them: %s; give them the file (bulkhead pki pack), then bulkhead secrets use", strings.Join(hosts, " "))
		return "", nil
	}
	return v.ring.First(), s.putLock(ctx, sealing, v.ring, "")
}
