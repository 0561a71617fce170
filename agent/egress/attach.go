package egress

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"bulkhead/internal/netspace"
)

// inside is what a cell's link is called in the container.
const inside = "eth0"

// burst is how many bytes pass at once before a link's bandwidth counts.
const burst = 256 << 10

// link makes a cell's link, from the router into the container of process pid.
// Nothing passes it until the router's rules name it.
func (r *router) link(c Cell, pid int, l Limits) error {
	cell, err := netns.GetFromPid(pid)
	if err != nil {
		return fmt.Errorf("cannot find the network namespace of process %d: %w", pid, err)
	}
	defer cell.Close()
	if cell.Equal(r.host) || cell.Equal(r.ns) {
		return fmt.Errorf("process %d has no network namespace of its own", pid)
	}
	up, err := r.in.LinkByName(uplink)
	if err != nil {
		return fmt.Errorf("cannot find link %s: %w", uplink, err)
	}
	mtu := up.Attrs().MTU
	veth := netlink.NewVeth(netlink.LinkAttrs{Name: c.link(), MTU: mtu})
	veth.PeerName, veth.PeerNamespace, veth.PeerMTU = inside, netlink.NsFd(int(cell)), uint32(mtu)
	if err := r.in.LinkAdd(veth); err != nil {
		return fmt.Errorf("cannot make link %s: %w", c.link(), err)
	}
	err = r.fit(c, l)
	if err == nil {
		err = fitInside(cell, c, l)
	}
	if err != nil {
		return errors.Join(err, r.unlink(c))
	}
	return nil
}

// fit sets up the router's end.
func (r *router) fit(c Cell, l Limits) error {
	if err := raise(r.in, c.link(), 32, gateway6); err != nil {
		return err
	}
	link, err := r.in.LinkByName(c.link())
	if err != nil {
		return fmt.Errorf("cannot find link %s: %w", c.link(), err)
	}
	for _, a := range []netip.Addr{c.addr4(), c.addr6()} {
		route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(netip.PrefixFrom(a, a.BitLen())), Scope: netlink.SCOPE_LINK}
		if err := r.in.RouteReplace(route); err != nil {
			return fmt.Errorf("cannot lead to cell %s: %w", c.ID, err)
		}
	}
	return throttle(r.in, link, l)
}

// fitInside sets up the container's end: who is in there may not change it.
func fitInside(ns netns.NsHandle, c Cell, l Limits) error {
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("cannot see to the links of cell %s: %w", c.ID, err)
	}
	defer h.Close()
	// An engine may have switched IPv6 off for a container without network.
	if err := netspace.Sysctls(ns, [2]string{"ipv6/conf/" + inside + "/disable_ipv6", "0"}, [2]string{"ipv6/conf/" + inside + "/accept_ra", "0"}); err != nil {
		return err
	}
	if err := raise(h, inside, 32, c.addr4(), c.addr6()); err != nil {
		return err
	}
	link, err := h.LinkByName(inside)
	if err != nil {
		return fmt.Errorf("cannot find the link of cell %s: %w", c.ID, err)
	}
	index := link.Attrs().Index
	for _, via := range []netip.Addr{gateway4, gateway6} {
		every := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if via.Is6() {
			every = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		route := &netlink.Route{LinkIndex: index, Dst: ipNet(every), Gw: via.AsSlice(), Flags: int(netlink.FLAG_ONLINK)}
		if err := h.RouteReplace(route); err != nil {
			return fmt.Errorf("cannot lead out of cell %s: %w", c.ID, err)
		}
	}
	return throttle(h, link, l)
}

// throttle bounds what leaves by a link: at the router's end what the cell
// receives, at the cell's end what it sends.
func throttle(h *netlink.Handle, link netlink.Link, l Limits) error {
	rate := uint64(l.Bandwidth)
	bucket := &netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate:       rate,
		Buffer:     netlink.Xmittime(rate, burst),
		Limit:      burst + uint32(rate/20), // what waits longer than 50 ms is lost
	}
	if err := h.QdiscReplace(bucket); err != nil {
		return fmt.Errorf("cannot bound the bandwidth of link %s: %w", link.Attrs().Name, err)
	}
	return nil
}

// unlink removes a cell's link. One that isn't there is no error: it has gone
// with its container.
func (r *router) unlink(c Cell) error {
	link, err := r.in.LinkByName(c.link())
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err == nil {
		err = r.in.LinkDel(link)
	}
	if err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("cannot remove link %s: %w", c.link(), err)
	}
	return nil
}
