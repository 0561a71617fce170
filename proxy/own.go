package proxy

import (
	"os"
	"strings"
)

// Targets that are the proxy's own. No tenant's name begins with a dash, or a
// dot.
const (
	healthPath    = "/-/healthz" // it is alive
	readyPath     = "/-/readyz"  // it takes requests, and will for a while
	challengePath = "/.well-known/acme-challenge/"
)

// toldToLeave says whether the host is about to be taken away. A balancer asks
// now and then, so the file is looked for as often.
func (p *Proxy) toldToLeave() bool {
	if p.opts.Leaving == "" {
		return false
	}
	_, err := os.Lstat(p.opts.Leaving)
	return err == nil
}

// ownPath returns the answer to a target of the proxy's own, and false for any
// other. As it stands: with its dots resolved, a function's path may read so
// too.
func (p *Proxy) ownPath(path, authority []byte) (status int, body string, ok bool) {
	switch {
	case len(path) < 2 || path[1] != '-' && path[1] != '.':
	case string(path) == healthPath:
		return 200, "ok\n", true
	case string(path) == readyPath:
		switch {
		case p.leaving.Load() || p.toldToLeave():
			return 503, "leaving\n", true
		case !p.table.Loaded():
			return 503, "no routes yet\n", true
		}
		return 200, "ready\n", true
	case p.acme != nil && strings.HasPrefix(string(path), challengePath):
		status, body = p.acme.challenge(string(path), string(authority))
		return status, body, true
	}
	return 0, "", false
}
