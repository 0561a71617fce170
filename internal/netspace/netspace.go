// Package netspace makes network namespaces that have a name, and does things
// in them.
package netspace

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Dir is where ip-netns(8) looks for named namespaces.
const Dir = "/run/netns"

// Path is where a named namespace is.
func Path(name string) string { return filepath.Join(Dir, name) }

// Within has do run on a thread of its own that is in a network namespace:
// sockets that it opens, programs that it starts and /proc/sys/net are that
// namespace's. The thread ends with it.
func Within(ns netns.NsHandle, do func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the runtime ends the thread
		if err := netns.Set(ns); err != nil {
			done <- fmt.Errorf("cannot enter a network namespace: %w", err)
			return
		}
		done <- do()
	}()
	return <-done
}

// Open opens the named namespace, and makes it if it isn't there.
func Open(name string) (netns.NsHandle, error) {
	path := Path(name)
	if ns, err := open(path); err == nil {
		return ns, nil
	}
	made := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		made <- create(path)
	}()
	if err := <-made; err != nil {
		return netns.None(), fmt.Errorf("cannot make network namespace %s: %w", name, err)
	}
	return open(path)
}

// create gives the calling thread a new network namespace, and the
// namespace a name.
func create(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o444)
	if err != nil {
		return err
	}
	f.Close()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	return unix.Mount("/proc/thread-self/ns/net", path, "", unix.MS_BIND, "")
}

// open opens a namespace by its path: a file that is none is an error.
func open(path string) (netns.NsHandle, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return netns.None(), err
	}
	if fs.Type != unix.NSFS_MAGIC {
		return netns.None(), fmt.Errorf("%s is no namespace", path)
	}
	return netns.GetFromPath(path)
}

// Remove takes a namespace's name from it. It goes, with all links in
// it, when nothing is in it any more.
func Remove(name string) error {
	path := Path(name)
	for unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) == nil {
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot remove network namespace %s: %w", name, err)
	}
	return nil
}

// Sysctls sets what a namespace has under /proc/sys/net.
func Sysctls(ns netns.NsHandle, values ...[2]string) error {
	return Within(ns, func() error {
		for _, v := range values {
			if err := os.WriteFile("/proc/sys/net/"+v[0], []byte(v[1]), 0o644); err != nil {
				return fmt.Errorf("cannot set net/%s to %s: %w", v[0], v[1], err)
			}
		}
		return nil
	})
}
