package agent

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"bulkhead/cluster"
)

// What a cell's directory may hold: sockets, a few for each function. It is
// a file system of its own, since tenants' code can write there, and /run,
// where it is, is everybody's.
const (
	cellSize  = "1m"
	cellFiles = 4096
)

// makeDirs makes an instance's directories. Only root passes private/; the
// cell's own directory is the instance's user's, whom it reaches by a bind
// mount.
func makeDirs(dir cluster.InstanceDir, uid int) error {
	for _, d := range []struct {
		path string
		mode os.FileMode
	}{{string(dir), 0o711}, {dir.Private(), 0o700}, {dir.Functions(), 0o755}, {dir.Root(), 0o755}, {dir.Cell(), 0o711}} {
		if err := os.MkdirAll(d.path, d.mode); err != nil {
			return err
		}
		if err := os.Chmod(d.path, d.mode); err != nil {
			return err
		}
	}
	if mounted(dir) {
		return os.Chown(dir.Cell(), uid, uid)
	}
	options := fmt.Sprintf("mode=0711,uid=%d,gid=%d,size=%s,nr_inodes=%d", uid, uid, cellSize, cellFiles)
	if err := unix.Mount("tmpfs", dir.Cell(), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, options); err != nil {
		return fmt.Errorf("cannot mount %s: %w", dir.Cell(), err)
	}
	return nil
}

// whole says whether all of an instance's directories are there.
func whole(dir cluster.InstanceDir) bool {
	for _, path := range []string{dir.Functions(), dir.Root()} {
		if _, err := os.Stat(path); err != nil {
			return false
		}
	}
	return mounted(dir)
}

// mounted says whether the cell's directory is a file system of its own.
func mounted(dir cluster.InstanceDir) bool {
	var cell, private unix.Stat_t
	err := errors.Join(unix.Lstat(dir.Cell(), &cell), unix.Lstat(dir.Private(), &private))
	return err == nil && cell.Dev != private.Dev
}

// removeDirs removes all of an instance's directories. Who still has the
// cell's file system mounted keeps it until he ends.
func removeDirs(dir cluster.InstanceDir) error {
	for mounted(dir) {
		if err := unix.Unmount(dir.Cell(), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("cannot unmount %s: %w", dir.Cell(), err)
		}
	}
	return os.RemoveAll(string(dir))
}
