package supervisor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// firstFD is where a service's sockets start (sd_listen_fds(3)).
const firstFD = 3

// socketSpec is what a socket unit says.
type socketSpec struct {
	Addresses  []string // as ListenStream= takes them: /path, ip:port or port
	Name       string   // of its descriptors
	Service    string   // the unit that they are for
	UID, GID   int
	Mode       int
	DirMode    int
	Backlog    int
	NoDelay    bool
	RemoveStop bool
}

func parseSocket(u unitFile) (socketSpec, error) {
	r := &reader{unitFile: u, section: "Socket"}
	s := socketSpec{
		Addresses:  u.all("Socket", "ListenStream"),
		Name:       u.last("Socket", "FileDescriptorName", u.name),
		Service:    u.last("Socket", "Service", partner(u.name, "service")),
		UID:        read(r, "SocketUser", 0, lookupUser),
		GID:        read(r, "SocketGroup", 0, lookupGroup),
		Mode:       read(r, "SocketMode", 0o666, parseOctal),
		DirMode:    read(r, "DirectoryMode", 0o755, parseOctal),
		Backlog:    read(r, "Backlog", unix.SOMAXCONN, strconv.Atoi),
		NoDelay:    u.yes("Socket", "NoDelay"),
		RemoveStop: u.yes("Socket", "RemoveOnStop"),
	}
	if r.err == nil && len(s.Addresses) == 0 {
		r.err = fmt.Errorf("%s: no ListenStream=", u.name)
	}
	return s, r.err
}

func lookupUser(name string) (int, error) {
	if id, err := strconv.Atoi(name); err == nil {
		return id, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(u.Uid)
}

func lookupGroup(name string) (int, error) {
	if id, err := strconv.Atoi(name); err == nil {
		return id, nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(g.Gid)
}

// listen opens all of a unit's sockets, or none.
func (s socketSpec) listen() (fds []int, err error) {
	for _, address := range s.Addresses {
		fd, err := s.open(address)
		if err != nil {
			closeAll(fds)
			return nil, fmt.Errorf("cannot listen on %s: %w", address, err)
		}
		fds = append(fds, fd)
	}
	return fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

func (s socketSpec) open(address string) (int, error) {
	if strings.HasPrefix(address, "/") {
		return s.openUnix(address)
	}
	return s.openTCP(address)
}

// openUnix binds a socket of which nobody can connect before it has its owner
// and mode. A socket file that nobody listens on any more gives way.
func (s socketSpec) openUnix(path string) (fd int, err error) {
	if err := os.MkdirAll(filepath.Dir(path), os.FileMode(s.DirMode)); err != nil {
		return -1, err
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() == os.ModeSocket {
		os.Remove(path)
	}
	fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	// The file takes its mode from the socket.
	err = unix.Fchmod(fd, 0o600)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrUnix{Name: path})
	}
	if err == nil {
		err = errors.Join(os.Chown(path, s.UID, s.GID), os.Chmod(path, os.FileMode(s.Mode)), unix.Listen(fd, s.Backlog))
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func (s socketSpec) openTCP(address string) (int, error) {
	if _, err := strconv.Atoi(address); err == nil {
		address = ":" + address
	}
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", address)
	if err != nil {
		return -1, err
	}
	defer l.Close()
	raw, err := l.(syscall.Conn).SyscallConn()
	if err != nil {
		return -1, err
	}
	fd, dupErr := -1, error(nil)
	err = raw.Control(func(sock uintptr) {
		fd, dupErr = unix.FcntlInt(sock, unix.F_DUPFD_CLOEXEC, 0)
	})
	if err = errors.Join(err, dupErr); err == nil && s.NoDelay {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	}
	return fd, err
}

// unlink removes the socket files of a unit that wants that.
func (s socketSpec) unlink() {
	for _, a := range s.Addresses {
		if s.RemoveStop && strings.HasPrefix(a, "/") {
			os.Remove(a)
		}
	}
}
