package egress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"bulkhead/agent/egress/egresstest"
	"bulkhead/cluster"
	"bulkhead/internal/netspace"
)

// world is a host and the Internet with a Network between them.
type world struct {
	*egresstest.World
	t       *testing.T
	network *Network
	config  Config
	back    chan struct{} // something was put back
	stop    func()
	cells   int
}

const (
	hostPublic, hostPrivate, hostPublic6 = egresstest.HostPublic, egresstest.HostPrivate, egresstest.HostPublic6
	site, site2, site6                   = egresstest.Site, egresstest.Site2, egresstest.Site6
	private, private6                    = egresstest.Private, egresstest.Private6
	metadata, metadata6                  = egresstest.Metadata, egresstest.Metadata6
)

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{World: egresstest.New(t), t: t, back: make(chan struct{}, 16)}
	w.config = Config{Name: w.Name, Host: w.HostPath(), Upstream: w.Resolv, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	t.Cleanup(func() {
		w.stop()
		if err := Remove(w.config); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(netspace.Path(w.Name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the router is still there: %v", err)
		}
	})
	w.open(nil, nil)
	return w
}

// open begins as an agent does that starts.
func (w *world) open(cells []Cell, policies map[string]cluster.Egress) {
	w.t.Helper()
	n, err := Open(w.config)
	w.must(err)
	n.moment = func() {
		select {
		case w.back <- struct{}{}:
		default:
		}
	}
	w.network = n
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
		n.Close()
	})
	err = n.Begin(cells, policies)
	go func() { done <- n.Run(ctx) }()
	w.must(err)
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// cell is a process with a network namespace of its own, as containers have.
type cell struct {
	Cell
	w   *world
	pid int
	ns  netns.NsHandle
}

func (w *world) blank() *cell {
	w.t.Helper()
	p := exec.Command("sleep", "infinity")
	p.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	w.must(p.Start())
	w.t.Cleanup(func() { p.Process.Kill(); p.Wait() })
	ns, err := netns.GetFromPid(p.Process.Pid)
	w.must(err)
	w.t.Cleanup(func() { ns.Close() })
	w.cells++
	c := &cell{Cell{ID: fmt.Sprintf("%08x", w.cells), UID: 400000 + w.cells}, w, p.Process.Pid, ns}
	w.must(w.network.Attach(c.ID, c.UID, c.pid))
	return c
}

// cell makes one that is an instance's.
func (w *world) cell(instance string, e cluster.Egress) *cell {
	w.t.Helper()
	c := w.blank()
	w.must(w.network.Join(c.ID, instance, e))
	c.Instance = instance
	return c
}

const soon = 5 * time.Second

// dial connects from the cell.
func (c *cell) dial(network, address string, patience time.Duration) (conn net.Conn, err error) {
	err = netspace.Within(c.ns, func() error {
		conn, err = net.DialTimeout(network, address, patience)
		return err
	})
	return conn, err
}

// says sends a word by a connection and returns the answer.
func says(conn net.Conn, patience time.Duration) (string, error) {
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, "hello"); err != nil {
		return "", err
	}
	b := make([]byte, 128)
	n, err := conn.Read(b)
	return string(b[:n]), err
}

// try connects and expects an answer; the connection is closed.
func (c *cell) try(network, address string, patience time.Duration) error {
	conn, err := c.dial(network, address, patience)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = says(conn, patience)
	return err
}

func (c *cell) reaches(network, address string) {
	c.w.t.Helper()
	if err := c.try(network, address, soon); err != nil {
		c.w.t.Errorf("%s does not reach %s %s: %v", c.Instance, network, address, err)
	}
}

// refused expects to be told at once that an address is out of reach.
func (c *cell) refused(network, address string) {
	c.w.t.Helper()
	err := c.try(network, address, soon)
	if !errors.Is(err, syscall.EHOSTUNREACH) && !errors.Is(err, syscall.ENETUNREACH) && !errors.Is(err, syscall.EACCES) && !errors.Is(err, syscall.EINVAL) {
		c.w.t.Errorf("%s is not refused %s %s: %v", c.Instance, network, address, err)
	}
}

// refusedMapped does the same by a socket for IPv6 that is told an IPv4 address.
func (c *cell) refusedMapped(address string, port int) {
	c.w.t.Helper()
	err := netspace.Within(c.ns, func() error {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Connect(fd, &unix.SockaddrInet6{Port: port, Addr: netip.MustParseAddr("::ffff:" + address).As16()})
	})
	if !errors.Is(err, unix.EHOSTUNREACH) {
		c.w.t.Errorf("%s is not refused ::ffff:%s: %v", c.Instance, address, err)
	}
}

// asks resolves a name as the code would: its addresses, or the failure's code.
func (c *cell) asks(name, kind string) ([]string, int) {
	c.w.t.Helper()
	conn, err := c.dial("udp", net.JoinHostPort(Resolver.String(), "53"), soon)
	c.w.must(err)
	defer conn.Close()
	q := new(dns.Msg).SetQuestion(name, dns.StringToType[kind])
	client := dns.Client{Timeout: soon}
	a, _, err := client.ExchangeWithConn(q, &dns.Conn{Conn: conn})
	c.w.must(err)
	var addrs []string
	for _, rr := range a.Answer {
		switch r := rr.(type) {
		case *dns.A:
			addrs = append(addrs, r.A.String())
		case *dns.AAAA:
			addrs = append(addrs, r.AAAA.String())
		}
	}
	return addrs, a.Rcode
}
