package cells

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// What a cell's directory may hold: sockets, a few for each function. It is a
// file system of its own, since tenants' code can write there, and /run, where
// it is, is everybody's.
const (
	treeSize  = "1m"
	treeFiles = 4096
)

// makeTree makes the cell's directories, the inner one its user's.
func (c *Cell) makeTree() error {
	for _, d := range []struct {
		path string
		mode os.FileMode
	}{{c.home, 0o700}, {c.Dir(), 0o711}} {
		if err := errors.Join(os.MkdirAll(d.path, d.mode), os.Chmod(d.path, d.mode)); err != nil {
			return err
		}
	}
	options := fmt.Sprintf("mode=0711,uid=%d,gid=%d,size=%s,nr_inodes=%d", c.UID, c.UID, treeSize, treeFiles)
	if err := unix.Mount("tmpfs", c.Dir(), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, options); err != nil {
		return fmt.Errorf("cannot mount %s: %w", c.Dir(), err)
	}
	return nil
}

// removeTree removes the cell's directories. Who still has the file system
// mounted keeps it until he ends.
func (c *Cell) removeTree() error {
	if c.At != "" {
		if err := c.hide(); err != nil {
			return err
		}
	}
	if err := unmount(c.Dir()); err != nil {
		return err
	}
	return os.RemoveAll(c.home)
}

// show lets the directory be seen at c.At too, over whatever cell's was.
func (c *Cell) show() error {
	if err := unmount(c.At); err != nil {
		return err
	}
	if err := unix.Mount(c.Dir(), c.At, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("cannot show %s at %s: %w", c.Dir(), c.At, err)
	}
	return nil
}

// hide undoes show, unless another cell's directory is there by now.
func (c *Cell) hide() error {
	var ours, there unix.Stat_t
	if unix.Lstat(c.Dir(), &ours) != nil || unix.Lstat(c.At, &there) != nil || ours.Dev != there.Dev {
		return nil
	}
	return unmount(c.At)
}

// unmount takes away what is mounted at a path, however often.
func unmount(path string) error {
	for mounted(path) {
		err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) {
			return nil // somebody else has
		}
		if err != nil {
			return fmt.Errorf("cannot unmount %s: %w", path, err)
		}
	}
	return nil
}

// mounted says whether a directory is a file system's root.
func mounted(path string) bool {
	var here, above unix.Stat_t
	err := errors.Join(unix.Lstat(path, &here), unix.Lstat(filepath.Dir(path), &above))
	return err == nil && here.Dev != above.Dev
}

// Tree returns the directory as a mount of its own that hangs nowhere
// (open_tree(2)): who gets it, in whatever jail, sees the sockets in it and
// nothing above.
func (c *Cell) Tree() (*os.File, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, c.Dir(), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("cannot open %s: %w", c.Dir(), err)
	}
	return os.NewFile(uintptr(fd), c.Dir()), nil
}

// resizeTmp changes how much the container's /tmp may hold.
func (c *Cell) resizeTmp(size int64) error {
	path := fmt.Sprintf("/proc/%d/root/tmp", c.PID)
	fd, err := unix.Fspick(unix.AT_FDCWD, path, unix.FSPICK_CLOEXEC)
	if err != nil {
		return fmt.Errorf("cannot resize /tmp of cell %s: %w", c.ID, err)
	}
	defer unix.Close(fd)
	err = errors.Join(unix.FsconfigSetString(fd, "size", fmt.Sprint(size)), unix.FsconfigReconfigure(fd))
	if errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("cannot resize /tmp of cell %s: it holds more than %d bytes", c.ID, size)
	}
	if err != nil {
		return fmt.Errorf("cannot resize /tmp of cell %s: %w", c.ID, err)
	}
	return nil
}
