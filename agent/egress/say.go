package egress

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"

	"bulkhead/cluster"
)

// recall takes over what an earlier agent's resolver has told an instance: of
// which name it was is not known any more. The lock is held.
func (n *Network) recall(instance string) {
	now, p := time.Now(), n.state.policies[instance]
	for _, set := range []string{names4(instance), names6(instance)} {
		found, err := n.inner.conn.GetSetElements(&nftables.Set{Table: n.table(), Name: set})
		if err != nil {
			continue // there was none
		}
		for _, e := range found {
			if a, ok := netip.AddrFromSlice(e.Key); ok && p.Address(a) && e.Expires > 0 {
				n.given.note(instance, "", []netip.Addr{a}, now.Add(e.Expires), now)
			}
		}
	}
}

// write writes the router's rules anew. The lock is held.
func (n *Network) write() error {
	n.state.given = n.given.leases()
	if err := n.inner.run(n.state.rules()); err != nil {
		return fmt.Errorf("cannot write the router's rules: %w", err)
	}
	return nil
}

// writeHost writes the host's. The lock is held.
func (n *Network) writeHost() error {
	err := n.outer.run(hostRules(n.cfg.Name))
	if err == nil {
		n.text, err = n.outer.list(n.cfg.Name)
	}
	if err == nil {
		err = dockerRules(n.ns, n.cfg.Name, true)
	}
	if err != nil {
		return fmt.Errorf("cannot write the host's rules: %w", err)
	}
	return nil
}

// Set says what the code of each instance may reach; of one that is not among
// them, nothing. What changes does so at once, for cells that run too.
func (n *Network) Set(policies map[string]cluster.Egress) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return errClosed
	}
	changed := map[string]cluster.Egress{}
	for i, e := range policies {
		if p, known := n.state.policies[i]; !known || !same(p.Egress, e) {
			changed[i] = e
		}
	}
	var over []string
	for i := range n.state.policies {
		if _, wanted := policies[i]; !wanted {
			over = append(over, i)
		}
	}
	if len(changed) > 0 {
		if err := n.say(changed); err != nil {
			return fmt.Errorf("cannot change what instances may reach: %w", err)
		}
	}
	if len(over) == 0 {
		return nil
	}
	if err := n.forget(over); err != nil {
		return fmt.Errorf("cannot take away what instances might reach: %w", err)
	}
	return nil
}

// say puts policies in force, in one transaction. The lock is held.
func (n *Network) say(policies map[string]cluster.Egress) error {
	before := map[string]Policy{}
	script := ""
	for i, e := range policies {
		if p, known := n.state.policies[i]; known {
			before[i] = p
		}
		p := NewPolicy(e)
		n.state.policies[i] = p
		n.given.keep(i, p)
	}
	n.state.given = n.given.leases()
	for i := range policies {
		script += n.state.instance(i)
	}
	err := n.inner.run(script)
	if err == nil {
		return nil
	}
	// What is said is not in force: all of it anew, or nothing is known to be.
	if anew := n.write(); anew == nil {
		return nil
	}
	for i := range policies {
		delete(n.state.policies, i)
		if p, known := before[i]; known {
			n.state.policies[i] = p
		}
	}
	return err
}

// forget removes instances' rules. The lock is held.
func (n *Network) forget(instances []string) error {
	slices.Sort(instances)
	script := ""
	for id, c := range n.state.cells {
		if slices.Contains(instances, c.Instance) {
			script += fmt.Sprintf("delete element inet %s cells { %q }\n", n.cfg.Name, c.link())
			c.Instance = ""
			n.state.cells[id] = c
		}
	}
	for _, i := range instances {
		delete(n.state.policies, i)
		delete(n.given, i)
	}
	if err := n.inner.run(script + gone(n.cfg.Name, instances)); err != nil {
		return n.write()
	}
	return nil
}

func same(a, b cluster.Egress) bool {
	return slices.Equal(a.Allow, b.Allow) && slices.Equal(a.Deny, b.Deny)
}
