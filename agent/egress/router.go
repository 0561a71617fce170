package egress

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"bulkhead/internal/netspace"
)

// outTable is the router's routing table for what is marked.
const outTable = 100

// router is the namespace that cells' links end in.
type router struct {
	name      string
	ns, host  netns.NsHandle
	in, there *netlink.Handle // the router's links, and the host's
	v6        bool            // the host has IPv6, and forwards it
}

// openRouter opens the router, and makes what of it isn't there.
func openRouter(name string, host netns.NsHandle) (*router, error) {
	r := &router{name: name, host: host, ns: netns.None()}
	if err := r.open(); err != nil {
		return nil, errors.Join(err, r.close())
	}
	return r, nil
}

func (r *router) open() (err error) {
	if err := r.mayForward(); err != nil {
		return err
	}
	if r.there, err = netlink.NewHandleAt(r.host, unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("cannot see to the host's links: %w", err)
	}
	if r.ns, err = netspace.Open(r.name); err != nil {
		return err
	}
	if r.in, err = netlink.NewHandleAt(r.ns, unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("cannot see to the router's links: %w", err)
	}
	if err := netspace.Sysctls(r.ns, [2]string{"ipv4/conf/default/rp_filter", "1"}, [2]string{"ipv4/conf/all/rp_filter", "0"},
		// Who is refused hears so at once, however often: it costs the router no more than the asking.
		[2]string{"ipv4/icmp_ratelimit", "0"}, [2]string{"ipv6/icmp/ratelimit", "0"},
		[2]string{"ipv4/ip_unprivileged_port_start", "53"}, // nobody but our resolver has sockets here
		[2]string{"ipv4/conf/all/send_redirects", "0"}, [2]string{"ipv4/conf/default/send_redirects", "0"},
		[2]string{"ipv6/conf/all/accept_ra", "0"}, [2]string{"ipv6/conf/default/accept_ra", "0"}, [2]string{"ipv6/conf/default/accept_dad", "0"}); err != nil {
		return err
	}
	if err := r.policy(); err != nil {
		return err
	}
	if err := r.connect(); err != nil {
		return err
	}
	return netspace.Sysctls(r.ns, [2]string{"ipv4/conf/" + uplink + "/rp_filter", "0"}, [2]string{"ipv4/ip_forward", "1"}, [2]string{"ipv6/conf/all/forwarding", "1"})
}

func (r *router) close() error {
	if r.in != nil {
		r.in.Close()
	}
	if r.there != nil {
		r.there.Close()
	}
	if r.ns.IsOpen() {
		return r.ns.Close()
	}
	return nil
}

// mayForward says whether the host forwards at all. To make it do so is the
// operator's: it concerns all of its links.
func (r *router) mayForward() error {
	on := func(path string) bool {
		text, err := os.ReadFile("/proc/sys/net/" + path)
		return err == nil && strings.TrimSpace(string(text)) != "0"
	}
	return netspace.Within(r.host, func() error {
		r.v6 = on("ipv6/conf/all/forwarding") && !on("ipv6/conf/default/disable_ipv6")
		if !on("ipv4/ip_forward") {
			return errors.New("the host does not forward: want net.ipv4.ip_forward = 1 (sysctl)")
		}
		return nil
	})
}

// policy has only what is marked routed on from cells. What comes from the
// host and the router's own finds the cells.
func (r *router) policy() error {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		want := []func(*netlink.Rule){
			func(r *netlink.Rule) { r.Mark, r.Table = passMark, outTable },
			func(r *netlink.Rule) { r.IifName, r.Table = uplink, unix.RT_TABLE_MAIN },
			func(r *netlink.Rule) { r.IifName, r.Table = "lo", unix.RT_TABLE_MAIN },
			func(r *netlink.Rule) { r.Type = unix.RTN_UNREACHABLE },
		}
		for i, set := range want {
			rule := netlink.NewRule()
			rule.Family, rule.Priority = family, 10*(i+1)
			set(rule)
			if err := r.in.RuleAdd(rule); err != nil && !errors.Is(err, unix.EEXIST) {
				return fmt.Errorf("cannot add a routing rule: %w", err)
			}
		}
		rules, err := r.in.RuleList(family)
		if err != nil {
			return fmt.Errorf("cannot list routing rules: %w", err)
		}
		for _, rule := range rules {
			if rule.Priority <= 10*len(want) { // the kernel's for local addresses is 0
				continue
			}
			rule.Family = family
			if err := r.in.RuleDel(&rule); err != nil {
				return fmt.Errorf("cannot delete routing rule %v: %w", rule, err)
			}
		}
	}
	return nil
}

// connect makes the link between router and host, if it isn't there.
func (r *router) connect() error {
	_, inErr := r.in.LinkByName(uplink)
	outside, err := r.there.LinkByName(r.name)
	if inErr != nil || err != nil {
		if err == nil {
			if err := r.there.LinkDel(outside); err != nil {
				return fmt.Errorf("cannot replace link %s: %w", r.name, err)
			}
		}
		veth := netlink.NewVeth(netlink.LinkAttrs{Name: r.name, MTU: r.mtu()})
		veth.PeerName, veth.PeerNamespace = uplink, netlink.NsFd(int(r.ns))
		if err := r.there.LinkAdd(veth); err != nil {
			return fmt.Errorf("cannot make link %s: %w", r.name, err)
		}
	}
	ours := []netip.Addr{host4}
	if r.v6 { // elsewhere the host may have no IPv6 at all
		ours = append(ours, host6)
	}
	if err := raise(r.there, r.name, 31, ours...); err != nil {
		return err
	}
	if err := raise(r.in, uplink, 31, router4, router6); err != nil {
		return err
	}
	if err := raise(r.in, "lo", 32, gateway4); err != nil {
		return err
	}
	return r.lead()
}

// mtu is that of the host's way out, or Ethernet's.
func (r *router) mtu() int {
	routes, err := r.there.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err == nil {
		for _, route := range routes {
			if route.Dst != nil && route.Dst.String() != "0.0.0.0/0" {
				continue
			}
			if link, err := r.there.LinkByIndex(route.LinkIndex); err == nil {
				return link.Attrs().MTU
			}
		}
	}
	return 1500
}

// raise brings a link up with addresses; bits is the length of those of IPv4,
// those of IPv6 are as long before the end.
func raise(h *netlink.Handle, name string, bits int, addrs ...netip.Addr) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("cannot find link %s: %w", name, err)
	}
	for _, a := range addrs {
		length := bits + a.BitLen() - 32
		if err := h.AddrReplace(link, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(a, length)), Flags: unix.IFA_F_NODAD}); err != nil {
			return fmt.Errorf("cannot give link %s the address %s: %w", name, a, err)
		}
	}
	if err := h.LinkSetUp(link); err != nil {
		return fmt.Errorf("cannot bring up link %s: %w", name, err)
	}
	return nil
}

// lead adds the routes by which what is marked leaves.
func (r *router) lead() error {
	link, err := r.in.LinkByName(uplink)
	if err != nil {
		return fmt.Errorf("cannot find link %s: %w", uplink, err)
	}
	for _, via := range []netip.Addr{host4, host6} {
		if !via.Is4() && !r.v6 {
			continue
		}
		every := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if via.Is6() {
			every = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Table: outTable, Dst: ipNet(every), Gw: via.AsSlice(), Flags: int(netlink.FLAG_ONLINK)}
		if err := r.in.RouteReplace(route); err != nil {
			return fmt.Errorf("cannot lead to the host: %w", err)
		}
	}
	return nil
}

// addresses are the host's own.
func (r *router) addresses() ([]netip.Addr, error) {
	list, err := r.there.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("cannot list the host's addresses: %w", err)
	}
	var addrs []netip.Addr
	for _, a := range list {
		if addr, ok := netip.AddrFromSlice(a.IP); ok {
			addrs = append(addrs, addr.Unmap())
		}
	}
	return addrs, nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
