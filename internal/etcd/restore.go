package etcd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"go.etcd.io/etcd/etcdutl/v3/snapshot"
	"go.uber.org/zap"
)

// revisionBump is how far a restored store's revisions are ahead of the
// snapshot's: more than a cluster writes between two snapshots, so that no
// watcher waits for a revision that it has seen already.
const revisionBump = 1_000_000_000

// Restore gives a member, described by the file as for [Member], the state of
// a snapshot ("etcdctl snapshot save"), as a member of a new cluster: all
// members have to be restored from the same snapshot. What it had is kept
// beside it, and its name returned; empty: it had nothing. It returns
// [ErrLocked] while the member runs.
func Restore(file, saved string) (before string, err error) {
	c, err := memberConfig(file)
	if err != nil {
		return "", fmt.Errorf("cannot restore by %s: %w", file, err)
	}
	lock, err := lockDir(c.Dir)
	if err != nil {
		return "", fmt.Errorf("cannot restore into %s: %w", c.Dir, err)
	}
	defer lock.Close()
	fresh := filepath.Join(c.Dir, "restoring")
	if err := os.RemoveAll(fresh); err != nil { // of one that was interrupted
		return "", fmt.Errorf("cannot restore into %s: %w", c.Dir, err)
	}
	defer os.RemoveAll(fresh)
	var peers []string
	for _, u := range c.AdvertisePeerUrls {
		peers = append(peers, u.String())
	}
	if err := snapshot.NewV3(zap.NewNop()).Restore(snapshot.RestoreConfig{
		SnapshotPath: saved, OutputDataDir: fresh, Name: c.Name, PeerURLs: peers,
		InitialCluster: c.InitialCluster, InitialClusterToken: c.InitialClusterToken,
		RevisionBump: revisionBump, MarkCompacted: true,
	}); err != nil {
		return "", fmt.Errorf("cannot restore snapshot %s: %w", saved, err)
	}
	if err := giveTo(c.Dir, fresh); err != nil {
		return "", fmt.Errorf("cannot give what was restored to etcd's user: %w", err)
	}
	return exchange(c.Dir, fresh)
}

// exchange puts the restored member in the place of the old one.
func exchange(dir, fresh string) (before string, err error) {
	now := filepath.Join(dir, "member")
	before = filepath.Join(dir, "member-before-"+time.Now().UTC().Format("20060102T150405Z"))
	if err := os.Rename(now, before); errors.Is(err, fs.ErrNotExist) {
		before = ""
	} else if err != nil {
		return "", fmt.Errorf("cannot put the old state aside: %w", err)
	}
	if err := os.Rename(filepath.Join(fresh, "member"), now); err != nil {
		return before, fmt.Errorf("cannot put the restored state in its place: %w", err)
	}
	return before, nil
}

// giveTo gives everything below path to the owner of dir: the unit's user is
// another than who restores.
func giveTo(dir, path string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t)
	return filepath.WalkDir(path, func(p string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(p, int(owner.Uid), int(owner.Gid)))
	})
}
