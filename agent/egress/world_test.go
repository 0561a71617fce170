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
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"bulkhead/cluster"
)

// world is a host and the Internet, each a network namespace with nothing else
// in it: no packet of theirs leaves this machine. The Internet answers for
// every address that a test asks for, metadata services' too.
type world struct {
	t              *testing.T
	name           string
	host, internet netns.NsHandle
	network        *Network
	config         Config
	back           chan struct{} // something was put back
	stop           func()
	cells          int
	mu             sync.Mutex
	zone           map[string][]string // by name and type: records, the next at each question
	asked          []string
}

// The host's own addresses, and some that the Internet has.
const (
	hostPublic, hostPrivate, hostPublic6 = "9.9.1.2", "10.77.0.2", "2a00:9::2"
	site, site2, site6                   = "8.1.1.1", "8.2.2.2", "2a00:8::1"
	private, private6                    = "10.77.0.9", "fd77::9"
	metadata, metadata6                  = "169.254.169.254", "fd00:ec2::254"
	server                               = "9.9.1.1" // the host's DNS
)

func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("needs nftables")
	}
	w := &world{t: t, name: fmt.Sprintf("bht%d", os.Getpid()), back: make(chan struct{}, 16), zone: map[string][]string{}}
	w.host, w.internet = w.namespace("h"), w.namespace("i")
	w.connect()
	w.listen(w.internet, "80", "443", "2379", "8080", "53")
	w.listen(w.host, "22", "2375", "2379")
	w.echo()
	w.resolve()
	resolv := filepath.Join(t.TempDir(), "resolv.conf")
	w.must(os.WriteFile(resolv, []byte("nameserver "+server+"\n"), 0o644))
	w.config = Config{Name: w.name, Host: filepath.Join(namespaces, w.name+"h"), Upstream: resolv, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	t.Cleanup(func() {
		w.stop()
		if err := Remove(w.config); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(filepath.Join(namespaces, w.name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the router is still there: %v", err)
		}
	})
	w.open()
	return w
}

// open begins as an agent does that starts.
func (w *world) open() {
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
	began := sync.OnceFunc(func() { go func() { done <- n.Run(ctx) }() })
	w.t.Cleanup(began) // or stop waits for ever
	w.must(n.Begin(nil, nil))
	began()
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) namespace(suffix string) netns.NsHandle {
	w.t.Helper()
	ns, err := openNamespace(w.name + suffix)
	w.must(err)
	w.t.Cleanup(func() { ns.Close(); removeNamespace(w.name + suffix) })
	return ns
}

// connect gives the host a link to the Internet, by which it reaches all.
func (w *world) connect() {
	w.t.Helper()
	h, err := netlink.NewHandleAt(w.host)
	w.must(err)
	defer h.Close()
	i, err := netlink.NewHandleAt(w.internet)
	w.must(err)
	defer i.Close()
	w.must(sysctls(w.host, [2]string{"ipv4/ip_forward", "1"}, [2]string{"ipv6/conf/all/forwarding", "1"}, [2]string{"ipv6/conf/default/accept_dad", "0"}))
	veth := netlink.NewVeth(netlink.LinkAttrs{Name: "lan"})
	veth.PeerName, veth.PeerNamespace = "lan", netlink.NsFd(int(w.internet))
	w.must(h.LinkAdd(veth))
	up := func(h *netlink.Handle, name string, addrs ...string) {
		link, err := h.LinkByName(name)
		w.must(err)
		for _, a := range addrs {
			w.must(h.AddrAdd(link, &netlink.Addr{IPNet: ipNet(netip.MustParsePrefix(a)), Flags: 2})) // IFA_F_NODAD
		}
		w.must(h.LinkSetUp(link))
	}
	up(h, "lo")
	up(i, "lo", site+"/32", site2+"/32", site6+"/128", metadata+"/32", metadata6+"/128", "100.100.100.200/32", "172.17.0.9/32", "192.168.1.9/32", "100.64.3.3/32", "203.0.113.7/32", "64:ff9b::808:808/128")
	up(h, "lan", hostPublic+"/24", hostPrivate+"/24", hostPublic6+"/64", "fd77::2/64")
	up(i, "lan", server+"/24", private+"/24", "2a00:9::1/64", private6+"/64")
	lan, err := h.LinkByName("lan")
	w.must(err)
	w.must(h.RouteAdd(&netlink.Route{LinkIndex: lan.Attrs().Index, Gw: net.ParseIP(server), Dst: ipNet(netip.MustParsePrefix("0.0.0.0/0"))}))
	w.must(h.RouteAdd(&netlink.Route{LinkIndex: lan.Attrs().Index, Gw: net.ParseIP("2a00:9::1"), Dst: ipNet(netip.MustParsePrefix("::/0"))}))
}

// listen answers on TCP ports, whatever the address, with the caller's.
func (w *world) listen(ns netns.NsHandle, ports ...string) {
	w.t.Helper()
	for _, port := range ports {
		var l net.Listener
		w.must(within(ns, func() (err error) { l, err = net.Listen("tcp", ":"+port); return err }))
		w.t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() { // each line comes back with where it came from
					defer c.Close()
					for b := make([]byte, 64); ; {
						n, err := c.Read(b)
						if err != nil {
							return
						}
						fmt.Fprintf(c, "%s %s", b[:n], c.RemoteAddr())
					}
				}()
			}
		}()
	}
}

// echo answers UDP in the Internet.
func (w *world) echo() {
	w.t.Helper()
	for _, addr := range []string{site, site6, private, metadata} {
		var c net.PacketConn
		w.must(within(w.internet, func() (err error) { c, err = net.ListenPacket("udp", net.JoinHostPort(addr, "4000")); return err }))
		w.t.Cleanup(func() { c.Close() })
		go func() {
			for b := make([]byte, 64); ; {
				n, from, err := c.ReadFrom(b)
				if err != nil {
					return
				}
				c.WriteTo(b[:n], from)
			}
		}()
	}
}

// resolve answers for names from the zone.
func (w *world) resolve() {
	w.t.Helper()
	var c net.PacketConn
	w.must(within(w.internet, func() (err error) { c, err = net.ListenPacket("udp4", server+":53"); return err }))
	started := make(chan struct{})
	s := &dns.Server{PacketConn: c, NotifyStartedFunc: func() { close(started) }, Handler: dns.HandlerFunc(func(r dns.ResponseWriter, q *dns.Msg) {
		w.mu.Lock()
		defer w.mu.Unlock()
		a := new(dns.Msg).SetReply(q)
		key := strings.ToLower(q.Question[0].Name) + " " + dns.TypeToString[q.Question[0].Qtype]
		w.asked = append(w.asked, key)
		records, ok := w.zone[key]
		if !ok {
			a.Rcode = dns.RcodeNameError
		} else {
			for text := range strings.SplitSeq(records[0], "\n") {
				if rr, err := dns.NewRR(text); err == nil && rr != nil {
					a.Answer = append(a.Answer, rr)
				}
			}
			if len(records) > 1 {
				w.zone[key] = records[1:]
			}
		}
		r.WriteMsg(a)
	})}
	go s.ActivateAndServe()
	<-started
	w.t.Cleanup(func() { s.Shutdown() })
}

// says has the Internet's DNS answer a question, with the next records each time.
func (w *world) says(name, kind string, answers ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var records []string
	for _, a := range answers {
		records = append(records, fmt.Sprintf("%s 60 IN %s %s", name, kind, a))
	}
	w.zone[name+" "+kind] = records
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
	p.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
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
	err = within(c.ns, func() error {
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
	err := within(c.ns, func() error {
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
