package egress

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"bulkhead/internal/netspace"
)

// checkAgain is how often to look at the rules although no event has come.
const checkAgain = 30 * time.Second

// Run resolves names for cells, and puts back what others change, until ctx
// ends.
func (n *Network) Run(ctx context.Context) error {
	stop, err := n.serve(ctx)
	if err != nil {
		return fmt.Errorf("cannot resolve names for cells: %w", err)
	}
	defer stop()
	if n.cfg.Over != nil {
		ctx, cancel := context.WithCancel(ctx)
		var work sync.WaitGroup
		work.Go(func() { n.tellOvers(ctx) })
		defer work.Wait()
		defer cancel()
	}
	hints := make(chan struct{}, 1)
	hint := func() {
		select {
		case hints <- struct{}{}:
		default:
		}
	}
	for _, r := range []*ruleset{n.inner, n.outer} {
		events, err := r.follow(hint)
		if err != nil {
			return err
		}
		defer events.Close()
	}
	moved, done := make(chan netlink.AddrUpdate, 64), make(chan struct{})
	defer close(done)
	if err := netlink.AddrSubscribeWithOptions(moved, done, netlink.AddrSubscribeOptions{Namespace: &n.ns, ErrorCallback: func(error) { hint() }}); err != nil {
		return fmt.Errorf("cannot follow the host's addresses: %w", err)
	}
	for {
		n.check()
		select {
		case <-ctx.Done():
			return nil
		case <-hints:
		case <-moved:
		case <-time.After(checkAgain):
		}
	}
}

// check puts back what somebody else has changed, and takes in the host's new
// addresses. Until that is done nothing passes that should not: without rules
// nothing is marked, and without a mark nothing is routed on.
func (n *Network) check() {
	n.mu.Lock()
	defer n.mu.Unlock()
	back, err := n.checkRouter()
	if err == nil {
		var outer bool
		outer, err = n.checkHost()
		back = back || outer
	}
	if err != nil {
		n.cfg.Log.Error("the rules of cells' network are not put back: what is missing of them lets nothing pass", "error", err)
		return
	}
	if back {
		n.cfg.Log.Warn("somebody else had changed the rules of cells' network: they are put back")
		if n.moment != nil {
			n.moment()
		}
	}
}

func (n *Network) checkRouter() (bool, error) {
	host, err := n.router.addresses()
	if err != nil {
		return false, err
	}
	moved := !slices.Equal(host, n.state.host)
	n.state.host = host
	alien, err := n.inner.disturbed()
	if err != nil {
		return false, err
	}
	if !alien && moved {
		if n.inner.run(n.state.hosts()) == nil {
			return false, nil
		}
	} else if !alien {
		return false, nil
	}
	if err := n.write(); err != nil {
		n.inner.alien = true // try again
		return false, err
	}
	return alien, nil
}

// checkHost writes the host's rules again if they differ: there, others may
// change theirs as they like.
func (n *Network) checkHost() (bool, error) {
	alien, err := n.outer.disturbed()
	if err != nil || !alien {
		return false, err
	}
	if text, err := n.outer.list(n.cfg.Name); err == nil && text == n.text {
		return false, dockerRules(n.ns, n.cfg.Name, true)
	}
	if err := n.writeHost(); err != nil {
		n.outer.alien = true
		return false, err
	}
	return true, nil
}

// There says whether a router of that name is there.
func There(c Config) bool {
	_, err := os.Stat(netspace.Path(c.Name))
	return err == nil
}

// Remove takes away all that a Network of that name has made on the host, and
// with the router every cell's link.
func Remove(c Config) error {
	host, err := hostNamespace(c)
	if err != nil {
		return fmt.Errorf("cannot remove cells' network: %w", err)
	}
	defer host.Close()
	errs := []error{removeLink(host, c.Name), netspace.Remove(c.Name)}
	if outer, err := openRuleset(host); err == nil { // without nft there are no rules
		errs = append(errs, outer.run(fmt.Sprintf("table inet %[1]s\ndelete table inet %[1]s\n", c.Name)), outer.close())
	}
	if err := errors.Join(append(errs, dockerRules(host, c.Name, false))...); err != nil {
		return fmt.Errorf("cannot remove cells' network: %w", err)
	}
	return nil
}

// removeLink removes a host's link to its router: nothing gets out any more.
func removeLink(host netns.NsHandle, name string) error {
	h, err := netlink.NewHandleAt(host, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	link, err := h.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err == nil {
		err = h.LinkDel(link)
	}
	return err
}
