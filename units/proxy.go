package units

import (
	"fmt"
	"path"
	"strings"

	"bulkhead/cluster"
)

// Names of the host proxy's units.
const (
	ProxySocket  = "bulkhead-proxy.socket"
	ProxyService = "bulkhead-proxy.service"
)

// Proxy says how a host's proxy runs.
type Proxy struct {
	Binary string   // the static bulkhead binary; /bulkhead in its jail
	Args   []string // its arguments: proxy, …; without spaces
	Listen []string // what its socket unit listens on, as ListenStream= takes it
	Files  []string // files and directories that it may read, where they exist; same path in its jail
	UID    int      // its user, and
	GID    int      // group: the host's ProxyGID
	// Network lets it connect to other machines: their proxies, etcd. Without,
	// it still serves Listen, for the sockets are made outside, and reaches
	// etcd by a unix socket among Files.
	Network bool
}

type proxy struct {
	Proxy
	Root, Instances, State string
}

// ProxyRoot is the empty directory that the proxy's jail is built on.
func ProxyRoot(p cluster.Paths) string { return path.Join(p.Run, "proxy-root") }

// ProxyState is where the proxy may write, same path in its jail: it keeps
// its last good routes there.
func ProxyState(p cluster.Paths) string { return path.Join(p.State, "proxy") }

// RenderProxy returns the units of the host's proxy: its socket, whose
// descriptors are named "http", and its service. The directories that it
// names ([ProxyRoot], [ProxyState], <run>/instances) must exist before it
// starts.
func RenderProxy(host cluster.Host, p Proxy) ([]Unit, error) {
	d := proxy{Proxy: p, Root: ProxyRoot(host.Paths), State: ProxyState(host.Paths), Instances: path.Join(host.Paths.Run, "instances")}
	if err := checkPaths(append([]string{host.Paths.Run, host.Paths.State, p.Binary}, p.Files...)...); err != nil {
		return nil, fmt.Errorf("cannot render the proxy's units: %w", err)
	}
	for _, a := range append(append([]string{}, p.Args...), p.Listen...) {
		if a == "" || strings.ContainsAny(a, " \t\n\"'\\%$;") {
			return nil, fmt.Errorf("cannot render the proxy's units: %q: a unit file can't hold it unquoted", a)
		}
	}
	if p.UID <= 0 || p.GID <= 0 {
		return nil, fmt.Errorf("cannot render the proxy's units: user %d, group %d: want a user and a group other than root", p.UID, p.GID)
	}
	return render(d, []file{{ProxySocket, "proxy.socket"}, {ProxyService, "proxy.service"}})
}
