package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"bulkhead/agent/cells"
	"bulkhead/agent/egress"
	"bulkhead/cluster"
	"bulkhead/internal/kept"
)

// NetworkName is what the cells' network of a host with these paths is called:
// bulkhead, where they are the usual ones.
func NetworkName(p cluster.Paths) string {
	if p.Run == "/run/bulkhead" {
		return "bulkhead"
	}
	sum := sha256.Sum256([]byte(p.Run))
	return "bh-" + hex.EncodeToString(sum[:4])
}

// network is how cells of this host reach the outside; without one, why none
// does.
type network struct {
	*egress.Network
	why  string                    // it can't be; empty: it can
	said map[string]cluster.Egress // by instance: what its code may reach, as last said
}

// openNetwork prepares what lets cells out, if this host can. If not, nothing
// of an earlier agent's is left in force.
func (a *Agent) openNetwork() {
	a.network.why = "this host lets no code out (--egress=false)"
	if a.cfg.Egress == nil {
		if was := (egress.Config{Name: NetworkName(a.cfg.Host.Paths)}); egress.There(was) {
			if err := egress.Remove(was); err != nil {
				a.cfg.Log.Error("what an earlier agent let out may still get out", "error", err)
			}
		}
		return
	}
	c := *a.cfg.Egress
	c.Over = a.tellOver
	n, err := egress.Open(c)
	if err == nil {
		err = kept.Write(resolvFile(a.cfg.Host.Paths), fmt.Appendf(nil, "nameserver %s\noptions timeout:3 attempts:2\n", egress.Resolver), 0o644)
	}
	if err == nil {
		a.network.Network, a.network.why = n, ""
		return
	}
	a.shut(err)
}

// shut says once why no code on this host gets out, and sees to it.
func (a *Agent) shut(err error) {
	a.network.why = err.Error()
	a.cfg.Log.Warn("no tenant's code on this host can connect to anything", "error", err)
	if gone := egress.Remove(*a.cfg.Egress); gone != nil {
		a.cfg.Log.Error("what an earlier agent let out may still get out", "error", gone)
	}
	if a.network.Network != nil {
		a.network.Close()
		a.network.Network = nil
	}
}

// tellOver has the log of a cell's tenant say which limit its code has hit.
func (a *Agent) tellOver(cell, what string) {
	if err := a.cells.Tell(cell, what); err != nil {
		a.cfg.Log.Debug("a tenant does not hear of a limit that its code has hit", "cell", cell, "error", err)
	}
}

// useNetwork has cells made with a way out.
func (a *Agent) useNetwork(c *cells.Config) {
	if a.network.Network != nil {
		c.Network, c.Resolv = a.network, resolvFile(a.cfg.Host.Paths)
	}
}

func resolvFile(p cluster.Paths) string { return filepath.Join(p.Run, "resolv.conf") }

// beginNetwork takes over the cells that an earlier agent has left, under the
// policies last known. Without that none gets out.
func (a *Agent) beginNetwork() error {
	if a.network.Network == nil {
		return nil
	}
	var linked []egress.Cell
	for _, c := range a.cells.Linked() {
		linked = append(linked, egress.Cell{ID: c.ID, UID: c.UID, Instance: c.Instance})
	}
	a.network.said = a.mayReach(a.book.desired(a.cfg.Host.Paths))
	return a.network.Begin(linked, a.network.said)
}

// mayReach says what the code of each instance may: those that are going have
// what they had until their cell is gone, for requests that they finish.
func (a *Agent) mayReach(d Desired) map[string]cluster.Egress {
	may := map[string]cluster.Egress{}
	for i, w := range d {
		may[i] = w.Placement.Egress
	}
	for i, e := range a.network.said {
		if _, wanted := d[i]; wanted {
			continue
		}
		if _, has := a.cells.Of(i); has {
			may[i] = e
		}
	}
	return may
}

// letOut puts in force what placements say about where code may connect to.
func (a *Agent) letOut(d Desired) {
	if a.network.Network == nil {
		return
	}
	may := a.mayReach(d)
	if err := a.network.Set(may); err != nil {
		a.cfg.Log.Error("what tenants' code may reach is not as it should be, trying again", "error", err)
		return
	}
	a.network.said = may
}

// keepNetwork resolves names for cells and puts back what others change, until
// ctx ends.
func (a *Agent) keepNetwork(ctx context.Context) {
	for {
		err := a.network.Run(ctx)
		if ctx.Err() != nil {
			return
		}
		a.cfg.Log.Error("cells' network is not seen to, trying again", "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(observeAgain):
		}
	}
}

// noNetwork says why an instance's code reaches nothing although its policy
// allows something; empty: it does.
func (a *Agent) noNetwork(i string, e cluster.Egress) string {
	if egress.NewPolicy(e).Nothing() {
		return ""
	}
	if a.network.Network == nil {
		return a.network.why
	}
	switch c, has := a.cells.Of(i); {
	case has && !c.Linked && c.Runtime != "":
		return "containers of the OCI runtime " + c.Runtime + " do not see the link by which code gets out"
	case has && !c.Linked:
		return "its container is from before this host let code out: it gets another when it has slept"
	}
	return ""
}

// removeNetwork takes all of it away from the host.
func removeNetwork(c Config) error {
	if c.Egress == nil {
		return nil
	}
	return errors.Join(egress.Remove(*c.Egress), os.RemoveAll(resolvFile(c.Host.Paths)))
}
