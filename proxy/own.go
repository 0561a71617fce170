package proxy

import "strings"

// Targets that are the proxy's own. No tenant's name begins with a dash, or a
// dot.
const (
	healthPath    = "/-/healthz" // it is alive
	readyPath     = "/-/readyz"  // it takes requests, and will for a while
	challengePath = "/.well-known/acme-challenge/"
)

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
		case p.leaving.Load():
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
