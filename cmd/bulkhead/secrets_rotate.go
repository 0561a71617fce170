package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"bulkhead/cluster"
	"bulkhead/internal/sealed"
)

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
