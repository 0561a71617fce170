package agent

import (
	"os"

	"golang.org/x/sys/unix"

	"bulkhead/cluster"
)

// makeDirs makes an instance's directories. Only root passes private/.
func makeDirs(dir cluster.InstanceDir) error {
	for _, d := range []struct {
		path string
		mode os.FileMode
	}{{string(dir), 0o711}, {dir.Private(), 0o700}, {dir.Functions(), 0o755}, {dir.Root(), 0o755}, {dir.Agent(), 0o755}, {dir.Cell(), 0o711}} {
		if err := os.MkdirAll(d.path, d.mode); err != nil {
			return err
		}
		if d.path == dir.Cell() {
			continue // a cell's own may be there
		}
		if err := os.Chmod(d.path, d.mode); err != nil {
			return err
		}
	}
	return nil
}

// whole says whether all of an instance's directories are there.
func whole(dir cluster.InstanceDir) bool {
	for _, path := range []string{dir.Functions(), dir.Root(), dir.Agent(), dir.Cell()} {
		if _, err := os.Stat(path); err != nil {
			return false
		}
	}
	return true
}

// removeDirs removes all of an instance's directories. A cell's that is still
// to be seen there stays whole: it is only hidden.
func removeDirs(dir cluster.InstanceDir) error {
	for unix.Unmount(dir.Cell(), unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) == nil {
	}
	return os.RemoveAll(string(dir))
}
