package egress

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netns"

	"bulkhead/cluster"
)

// Config is what a Network needs to know.
type Config struct {
	// Name is what its namespace (ip netns), its link on the host and its table
	// of rules, in both places, are called. At most 15 characters.
	Name string
	// Host is the path of the network namespace that is the host's; empty: that
	// of the caller.
	Host   string
	Limits Limits         // of each instance
	Never  []netip.Prefix // what no code on this host may reach, besides what none ever may
	// Upstream is the file that names the servers the resolver asks, as
	// resolv.conf(5); default /etc/resolv.conf.
	Upstream string
	// Over is told of cells whose code hits a limit, in words for its author; of
	// the same cell and limit once a minute at most. Nil: nobody is.
	Over func(cell, what string)
	Log  *slog.Logger
}

// Network is how a host's cells reach the outside. It is safe for use by
// several goroutines.
type Network struct {
	cfg      Config
	ns       netns.NsHandle // the host's
	router   *router
	upstream *upstream

	mu      sync.Mutex
	state   state
	inner   *ruleset // the router's
	outer   *ruleset // the host's
	text    string   // the host's rules, as nft shows what we have written
	given   given
	closed  bool
	curious map[string]bool // cells that the resolver has refused lately, for they ask too much
	moment  func()          // tests: what was put back
}

// errClosed is for who comes late: the next agent does it.
var errClosed = errors.New("the network is closed")

// Open makes the router, or takes over the one that is there, with what it
// lets pass: until Begin it stays so. It fails where the host has no nftables,
// forwards nothing, or does not let the caller.
func Open(c Config) (*Network, error) {
	n := &Network{cfg: c, ns: netns.None()}
	if err := n.open(); err != nil {
		return nil, fmt.Errorf("cannot let cells out: %w", errors.Join(err, n.Close()))
	}
	return n, nil
}

func (n *Network) open() (err error) {
	if len(n.cfg.Name) == 0 || len(n.cfg.Name) > 15 || filepath.Base(n.cfg.Name) != n.cfg.Name {
		return fmt.Errorf("%q is no name of a link: want 1 to 15 characters", n.cfg.Name)
	}
	if n.ns, err = hostNamespace(n.cfg); err != nil {
		return err
	}
	if n.outer, err = openRuleset(n.ns); err != nil {
		return err
	}
	if n.router, err = openRouter(n.cfg.Name, n.ns); err != nil {
		return err
	}
	if n.inner, err = openRuleset(n.router.ns); err != nil {
		return err
	}
	host, err := n.router.addresses()
	if err != nil {
		return err
	}
	n.upstream = &upstream{ns: n.ns, elsewhere: n.cfg.Host != "", file: n.cfg.Upstream}
	n.given, n.curious = given{}, map[string]bool{}
	n.state = state{
		table: n.cfg.Name, limits: n.cfg.Limits.withDefaults(), never: n.cfg.Never, host: host,
		cells: map[string]Cell{}, policies: map[string]Policy{},
	}
	return n.able()
}

// able tries, without any effect, whether nft and the kernel can do all that
// the rules want.
func (n *Network) able() error {
	sample := n.state
	sample.policies = map[string]Policy{"a.0": NewPolicy(cluster.Egress{Allow: []string{"*"}}), "a.1": NewPolicy(cluster.Egress{Allow: []string{"*.example.com"}})}
	if _, err := n.inner.nft(sample.rules(), "-c", "-f", "-"); err != nil {
		return err
	}
	_, err := n.inner.disturbed() // not by this
	return err
}

// hostNamespace opens the namespace that is the host's.
func hostNamespace(c Config) (netns.NsHandle, error) {
	path := c.Host
	if path == "" {
		path = "/proc/thread-self/ns/net"
	}
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return ns, fmt.Errorf("cannot open the host's network namespace: %w", err)
	}
	return ns, nil
}

// Close lets go of the router. What it lets pass stays so.
func (n *Network) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	var errs []error
	for _, r := range []*ruleset{n.inner, n.outer} {
		if r != nil {
			errs = append(errs, r.close())
		}
	}
	if n.router != nil {
		errs = append(errs, n.router.close())
	}
	if n.ns.IsOpen() {
		errs = append(errs, n.ns.Close())
	}
	return errors.Join(errs...)
}

// Begin puts in force, in one transaction, what follows from the cells that
// there are and what instances' code may reach.
func (n *Network) Begin(cells []Cell, policies map[string]cluster.Egress) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range cells {
		n.state.cells[c.ID] = c
	}
	for i, e := range policies {
		n.state.policies[i] = NewPolicy(e)
		n.recall(i)
	}
	if err := n.writeHost(); err != nil {
		return err
	}
	return n.write()
}

// Attach gives the blank cell whose container's process pid is a link. Nothing
// passes by it.
func (n *Network) Attach(cell string, uid, pid int) error {
	c := Cell{ID: cell, UID: uid}
	if err := n.router.link(c, pid, n.cfg.Limits.withDefaults()); err != nil {
		return fmt.Errorf("cannot give cell %s a network: %w", cell, err)
	}
	n.mu.Lock() // not before: who wakes doesn't wait for that
	defer n.mu.Unlock()
	if n.closed {
		return errClosed
	}
	err := n.inner.edit(func(k *nftables.Conn) error { return n.own(k, c, (*nftables.Conn).SetAddElements) })
	if err != nil {
		return fmt.Errorf("cannot give cell %s a network: %w", cell, errors.Join(err, n.router.unlink(c)))
	}
	n.state.cells[cell] = c
	return nil
}

// own changes what the rules know of a cell's own addresses.
func (n *Network) own(k *nftables.Conn, c Cell, change func(*nftables.Conn, *nftables.Set, []nftables.SetElement) error) error {
	key := func(a netip.Addr) []nftables.SetElement {
		return []nftables.SetElement{{Key: append(linkName(c), a.AsSlice()...)}}
	}
	set4 := &nftables.Set{Table: n.table(), Name: "own4", Concatenation: true, KeyType: nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIPAddr)}
	set6 := &nftables.Set{Table: n.table(), Name: "own6", Concatenation: true, KeyType: nftables.MustConcatSetType(nftables.TypeIFName, nftables.TypeIP6Addr)}
	return errors.Join(change(k, set4, key(c.addr4())), change(k, set6, key(c.addr6())))
}

func (n *Network) table() *nftables.Table {
	return &nftables.Table{Name: n.cfg.Name, Family: nftables.TableFamilyINet}
}

// linkName is a cell's link as the kernel's rules know it.
func linkName(c Cell) []byte {
	name := make([]byte, 16)
	copy(name, c.link())
	return name
}

// Join lets a cell out, as its instance from then on, for life. Where Set has
// said before what the instance may reach, that is one element in the kernel.
func (n *Network) Join(cell, instance string, e cluster.Egress) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return errClosed
	}
	c, ok := n.state.cells[cell]
	if !ok || c.Instance != "" && c.Instance != instance {
		return fmt.Errorf("cannot let cell %s out: it has no link, or is another's", cell)
	}
	if p, known := n.state.policies[instance]; !known || !same(p.Egress, e) {
		if err := n.say(map[string]cluster.Egress{instance: e}); err != nil {
			return fmt.Errorf("cannot let cell %s out: %w", cell, err)
		}
	}
	c.Instance = instance
	if err := n.inner.edit(func(k *nftables.Conn) error { return k.SetAddElements(n.chains(), n.chainOf(c)) }); err != nil {
		return fmt.Errorf("cannot let cell %s out: %w", cell, err)
	}
	n.state.cells[cell] = c
	return nil
}

func (n *Network) chains() *nftables.Set {
	return &nftables.Set{Table: n.table(), Name: "cells", IsMap: true, KeyType: nftables.TypeIFName, DataType: nftables.TypeVerdict}
}

func (n *Network) chainOf(c Cell) []nftables.SetElement {
	return []nftables.SetElement{{Key: linkName(c), VerdictData: &expr.Verdict{Kind: expr.VerdictGoto, Chain: c.Instance}}}
}

// Detach takes a cell's link and all that the rules know of it away.
func (n *Network) Detach(cell string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	c, ok := n.state.cells[cell]
	if !ok {
		return nil
	}
	if n.closed {
		return errClosed
	}
	err := n.inner.edit(func(k *nftables.Conn) error {
		err := n.own(k, c, (*nftables.Conn).SetDeleteElements)
		if _, known := n.state.policies[c.Instance]; known {
			err = errors.Join(err, k.SetDeleteElements(n.chains(), n.chainOf(c)))
		}
		return err
	})
	delete(n.state.cells, cell)
	if err != nil { // somebody has meddled: all of it anew
		err = n.write()
	}
	return errors.Join(err, n.router.unlink(c))
}
