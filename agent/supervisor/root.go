package supervisor

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// makeRoot gives the process a root of its own: an empty, read-only file
// system in memory that holds what the unit binds there.
func makeRoot(j jailSpec) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("part from the host's mounts: %w", err)
	}
	if j.Root == "" {
		return nil
	}
	if err := unix.Mount("tmpfs", j.Root, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755,size=1m"); err != nil {
		return fmt.Errorf("mount %s: %w", j.Root, err)
	}
	if err := j.fill(); err != nil {
		return err
	}
	if err := unix.Chdir(j.Root); err != nil {
		return err
	}
	// The old root ends up on top of the new one, and goes.
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("change root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leave the host's root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	return restrict("/", unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC, false)
}

func (j jailSpec) fill() error {
	if j.Dev {
		for _, name := range []string{"null", "zero", "full", "random", "urandom"} {
			path := "/dev/" + name
			if err := j.mountAt(path, path, false); err != nil {
				return err
			}
			if err := restrict(filepath.Join(j.Root, path), unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC, false); err != nil {
				return err
			}
		}
	}
	const plain = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if j.Proc {
		if err := j.mountNew("proc", "/proc", plain, "subset=pid,hidepid=invisible"); err != nil {
			return err
		}
	}
	if j.Tmp {
		if err := j.mountNew("tmpfs", "/tmp", plain, "mode=1777,size=16m"); err != nil {
			return err
		}
	}
	// Last, so that what is bound below /tmp is not covered.
	for _, b := range j.Binds {
		if err := j.bind(b); err != nil {
			return err
		}
	}
	return nil
}

func (j jailSpec) mountNew(kind, target string, flags uintptr, options string) error {
	at := filepath.Join(j.Root, target)
	if err := os.MkdirAll(at, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(kind, at, kind, flags, options); err != nil {
		return fmt.Errorf("mount %s: %w", target, err)
	}
	return nil
}

// bind shows a path of the host in the jail. Only what the service executes
// may be executed.
func (j jailSpec) bind(b bind) error {
	info, err := os.Stat(b.Source)
	if os.IsNotExist(err) && b.Optional {
		return nil
	}
	if err != nil {
		return fmt.Errorf("bind %s: %w", b.Source, err)
	}
	if err := j.mountAt(b.Source, b.Target, info.IsDir()); err != nil {
		return err
	}
	attrs := uint64(unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV)
	if b.Target != j.Argv[0] {
		attrs |= unix.MOUNT_ATTR_NOEXEC
	}
	if b.ReadOnly {
		attrs |= unix.MOUNT_ATTR_RDONLY
	}
	return restrict(filepath.Join(j.Root, b.Target), attrs, true)
}

func (j jailSpec) mountAt(source, target string, dir bool) error {
	at := filepath.Join(j.Root, target)
	err := os.MkdirAll(filepath.Dir(at), 0o755)
	if err == nil && dir {
		err = os.MkdirAll(at, 0o755)
	} else if err == nil {
		err = os.WriteFile(at, nil, 0o644)
	}
	if err == nil {
		err = unix.Mount(source, at, "", unix.MS_BIND|unix.MS_REC, "")
	}
	if err != nil {
		return fmt.Errorf("bind %s at %s: %w", source, target, err)
	}
	return nil
}

// restrict sets attributes of a mount, and of those below it.
func restrict(path string, attrs uint64, below bool) error {
	var flags uint
	if below {
		flags = unix.AT_RECURSIVE
	}
	if err := unix.MountSetattr(unix.AT_FDCWD, path, flags, &unix.MountAttr{Attr_set: attrs}); err != nil {
		return fmt.Errorf("restrict %s: %w", path, err)
	}
	return nil
}
