// Package egresstest makes a host and the Internet, each a network namespace
// with nothing else in it, for tests of what cells can reach: no packet of
// theirs leaves this machine. The Internet answers for public addresses,
// private ones and clouds' metadata services alike.
package egresstest

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"bulkhead/internal/netspace"
)

// The host's own addresses, and some that the Internet has.
const (
	HostPublic, HostPrivate, HostPublic6, HostPrivate6 = "9.9.1.2", "10.77.0.2", "2a00:9::2", "fd77::2"
	Site, Site2, Site6                                 = "8.1.1.1", "8.2.2.2", "2a00:8::1"
	Private, Private6                                  = "10.77.0.9", "fd77::9"
	Metadata, Metadata6                                = "169.254.169.254", "fd00:ec2::254"
	server                                             = "9.9.1.1" // the host's DNS
)

// World is a host and the Internet.
type World struct {
	Name           string // of the host's namespace, with an h behind it
	Host, Internet netns.NsHandle
	Resolv         string // the host's resolv.conf

	t     testing.TB
	mu    sync.Mutex
	zone  map[string][]string // by name and type: records, the next at each question
	asked []string
	heard []string // by UDP
}

// New makes a world, or skips the test where that can't be.
func New(t testing.TB) *World {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("needs nftables")
	}
	w := &World{t: t, Name: fmt.Sprintf("bht%d", os.Getpid()), zone: map[string][]string{}}
	w.Host, w.Internet = w.namespace("h"), w.namespace("i")
	w.connect()
	w.Listen(w.Internet, "80", "443", "2379", "8080", "53")
	w.Listen(w.Host, "22", "2375", "2379")
	w.echo(Site, Site6, Private, Metadata)
	w.resolve()
	w.Resolv = filepath.Join(t.TempDir(), "resolv.conf")
	w.must(os.WriteFile(w.Resolv, []byte("nameserver "+server+"\n"), 0o644))
	return w
}

// HostPath is the path of the host's namespace.
func (w *World) HostPath() string { return netspace.Path(w.Name + "h") }

func (w *World) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *World) namespace(suffix string) netns.NsHandle {
	w.t.Helper()
	ns, err := netspace.Open(w.Name + suffix)
	w.must(err)
	w.t.Cleanup(func() { ns.Close(); netspace.Remove(w.Name + suffix) })
	return ns
}

// connect gives the host a link to the Internet, by which it reaches all.
func (w *World) connect() {
	w.t.Helper()
	h, err := netlink.NewHandleAt(w.Host)
	w.must(err)
	defer h.Close()
	i, err := netlink.NewHandleAt(w.Internet)
	w.must(err)
	defer i.Close()
	w.must(netspace.Sysctls(w.Host, [2]string{"ipv4/ip_forward", "1"}, [2]string{"ipv6/conf/all/forwarding", "1"}, [2]string{"ipv6/conf/default/accept_dad", "0"}))
	veth := netlink.NewVeth(netlink.LinkAttrs{Name: "lan"})
	veth.PeerName, veth.PeerNamespace = "lan", netlink.NsFd(int(w.Internet))
	w.must(h.LinkAdd(veth))
	w.raise(h, "lo")
	w.raise(i, "lo", Site+"/32", Site2+"/32", Site6+"/128", Metadata+"/32", Metadata6+"/128",
		"100.100.100.200/32", "172.17.0.9/32", "192.168.1.9/32", "100.64.3.3/32", "203.0.113.7/32", "64:ff9b::808:808/128")
	w.raise(h, "lan", HostPublic+"/24", HostPrivate+"/24", HostPublic6+"/64", HostPrivate6+"/64")
	w.raise(i, "lan", server+"/24", Private+"/24", "2a00:9::1/64", Private6+"/64")
	lan, err := h.LinkByName("lan")
	w.must(err)
	for every, via := range map[string]string{"0.0.0.0/0": server, "::/0": "2a00:9::1"} {
		_, all, _ := net.ParseCIDR(every)
		w.must(h.RouteAdd(&netlink.Route{LinkIndex: lan.Attrs().Index, Gw: net.ParseIP(via), Dst: all}))
	}
}

func (w *World) raise(h *netlink.Handle, name string, addrs ...string) {
	w.t.Helper()
	link, err := h.LinkByName(name)
	w.must(err)
	for _, text := range addrs {
		p := netip.MustParsePrefix(text)
		a := &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
		w.must(h.AddrAdd(link, &netlink.Addr{IPNet: a, Flags: unix.IFA_F_NODAD}))
	}
	w.must(h.LinkSetUp(link))
}

// Listen answers on TCP ports of a namespace, whatever the address: what comes
// goes back.
func (w *World) Listen(ns netns.NsHandle, ports ...string) {
	w.t.Helper()
	for _, port := range ports {
		var l net.Listener
		w.must(netspace.Within(ns, func() (err error) { l, err = net.Listen("tcp", ":"+port); return err }))
		w.t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					for b := make([]byte, 64<<10); ; {
						n, err := c.Read(b)
						if err != nil {
							return
						}
						c.Write(b[:n])
					}
				}()
			}
		}()
	}
}

// echo answers UDP, at port 4000, in the Internet.
func (w *World) echo(addrs ...string) {
	w.t.Helper()
	for _, addr := range addrs {
		var c net.PacketConn
		w.must(netspace.Within(w.Internet, func() (err error) {
			c, err = net.ListenPacket("udp", net.JoinHostPort(addr, "4000"))
			return err
		}))
		w.t.Cleanup(func() { c.Close() })
		go func() {
			for b := make([]byte, 64); ; {
				n, from, err := c.ReadFrom(b)
				if err != nil {
					return
				}
				w.mu.Lock()
				w.heard = append(w.heard, string(b[:n]))
				w.mu.Unlock()
				c.WriteTo(b[:n], from)
			}
		}()
	}
}

// resolve answers for names from the zone.
func (w *World) resolve() {
	w.t.Helper()
	var c net.PacketConn
	w.must(netspace.Within(w.Internet, func() (err error) { c, err = net.ListenPacket("udp4", server+":53"); return err }))
	started := make(chan struct{})
	s := &dns.Server{PacketConn: c, NotifyStartedFunc: func() { close(started) }, Handler: w}
	go s.ActivateAndServe()
	<-started
	w.t.Cleanup(func() { s.Shutdown() })
}

// ServeDNS implements [dns.Handler]: it is the Internet's DNS.
func (w *World) ServeDNS(r dns.ResponseWriter, q *dns.Msg) {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := new(dns.Msg).SetReply(q)
	key := strings.ToLower(q.Question[0].Name) + " " + dns.TypeToString[q.Question[0].Qtype]
	w.asked = append(w.asked, key)
	records, ok := w.zone[key]
	if !ok {
		a.Rcode = dns.RcodeNameError
		r.WriteMsg(a)
		return
	}
	for text := range strings.SplitSeq(records[0], "\n") {
		if rr, err := dns.NewRR(text); err == nil && rr != nil {
			a.Answer = append(a.Answer, rr)
		}
	}
	if len(records) > 1 {
		w.zone[key] = records[1:]
	}
	r.WriteMsg(a)
}

// Says has the Internet's DNS answer a question, with the next data each time.
func (w *World) Says(name, kind string, data ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var records []string
	for _, d := range data {
		records = append(records, fmt.Sprintf("%s 60 IN %s %s", name, kind, d))
	}
	w.zone[name+" "+kind] = records
}

// Heard is what has come by UDP so far.
func (w *World) Heard() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.heard...)
}

// Asked are the questions that the Internet's DNS has got so far.
func (w *World) Asked() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.asked...)
}
