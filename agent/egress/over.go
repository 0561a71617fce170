package egress

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/nftables"
)

const (
	// overEvery is how often it is looked which limits were hit.
	overEvery = 2 * time.Second
	// overSeconds is how long the rules remember that one was.
	overSeconds = 10
	// overAgain is how long nothing more is told of the same limit and cell.
	overAgain = time.Minute
)

// limit is one of those that an instance's code may hit.
type limit int

const (
	tooOften limit = iota
	tooMany
	tooFast
	tooCurious
)

// overSets are the sets in which the rules note, by its link, who hit a limit.
var overSets = map[limit]string{tooOften: "over_rate", tooMany: "over_open", tooFast: "over_packets", tooCurious: "over_asks"}

// note is the words of a rule that matches what is over a limit.
func (k limit) note() string { return "add @" + overSets[k] + " { iifname }" }

// overSetsText makes the sets.
func overSetsText() string {
	var b strings.Builder
	for k := range limit(len(overSets)) {
		fmt.Fprintf(&b, "\tset %s { type ifname; flags dynamic,timeout; timeout %ds; size 65535; }\n", overSets[k], overSeconds)
	}
	return b.String()
}

// over says in words what happened to code that hit a limit, and what its
// author can do.
func (l Limits) over(k limit) string {
	switch k {
	case tooOften:
		return fmt.Sprintf("egress: more than %d new connections a second (%d at once): those beyond are refused (EHOSTUNREACH, EACCES); keep connections open and use them again (http.Agent with keepAlive), or spread the work over more replicas", l.Rate, 2*l.Rate)
	case tooMany:
		return fmt.Sprintf("egress: more than %d connections open at a time: those beyond are refused (EHOSTUNREACH, EACCES); close what is done with, use open ones again, or spread the work over more replicas", l.Connections)
	case tooFast:
		return fmt.Sprintf("egress: more than %d packets a second: those beyond are lost; send fewer and larger ones, or spread the work over more replicas", l.Packets)
	}
	return fmt.Sprintf("egress: more than %d questions a second for names (%d at once), or %d unanswered: those beyond are refused (ECONNREFUSED, EREFUSED); keep the addresses that you were told, or keep connections open", questions, 4*questions, waiting)
}

// overs are what was told of whom.
type overs map[string]map[limit]time.Time

// news says whether a cell is to hear of a limit, which it does once a minute
// at most.
func (o overs) news(cell string, k limit, now time.Time) bool {
	if last, told := o[cell][k]; told && now.Sub(last) < overAgain {
		return false
	}
	if o[cell] == nil {
		o[cell] = map[limit]time.Time{}
	}
	o[cell][k] = now
	return true
}

// tellOvers tells which cells' code hits limits, until ctx ends.
func (n *Network) tellOvers(ctx context.Context) {
	tick := time.NewTicker(overEvery)
	defer tick.Stop()
	told := overs{}
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			for _, f := range n.findOvers(told, now) {
				n.cfg.Over(f.cell, f.text)
			}
		}
	}
}

// finding is what a cell is to hear.
type finding struct{ cell, text string }

func (n *Network) findOvers(told overs, now time.Time) (list []finding) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil
	}
	by := map[string]string{}
	for id, c := range n.state.cells {
		by[c.link()] = id
	}
	for id := range told {
		if _, there := n.state.cells[id]; !there {
			delete(told, id)
		}
	}
	hit := func(cell string, k limit) {
		if _, there := n.state.cells[cell]; there && told.news(cell, k, now) {
			list = append(list, finding{cell, n.state.limits.over(k)})
		}
	}
	for k, set := range overSets {
		found, err := n.inner.conn.GetSetElements(&nftables.Set{Table: n.table(), Name: set})
		if err != nil {
			continue // somebody has flushed it: it comes back
		}
		for _, e := range found {
			hit(by[strings.TrimRight(string(e.Key), "\x00")], k)
		}
	}
	for cell := range n.curious { // whom the resolver has refused
		hit(cell, tooCurious)
	}
	clear(n.curious)
	return list
}
