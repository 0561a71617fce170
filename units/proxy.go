package units

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"bulkhead/cluster"
)

// Names of the host proxy's units. Each socket unit has the sockets of one
// kind, for which there is a name: a service tells its descriptors apart by it.
const (
	ProxySocket     = "bulkhead-proxy.socket"      // "http": clients
	ProxyTLSSocket  = "bulkhead-proxy-tls.socket"  // "https": clients
	ProxyPeerSocket = "bulkhead-proxy-peer.socket" // "peer": other hosts' proxies
	ProxyService    = "bulkhead-proxy.service"
	// ProxyBeside has the same sockets as ProxyService, and serves while that
	// is replaced. See [RenderBeside].
	ProxyBeside = "bulkhead-proxy-beside.service"
)

// ProxyUnits are all that a proxy may have, in the order in which they are
// stopped: whoever connects to a socket would start its service.
var ProxyUnits = []string{ProxySocket, ProxyTLSSocket, ProxyPeerSocket, ProxyBeside, ProxyService}

// Proxy says how a host's proxy runs.
type Proxy struct {
	Binary string   // the static bulkhead binary; /bulkhead in its jail
	Args   []string // its arguments: proxy, …; without spaces
	Listen []string // what it listens on for clients, as ListenStream= takes it
	// ListenTLS and ListenPeer are likewise what it listens on for clients over
	// TLS and for other hosts' proxies; empty: it has no such unit.
	ListenTLS, ListenPeer []string

	// Files are files and directories that it may read, where they exist; same
	// path in its jail. Of what is replaced while it runs, as certificates are,
	// give the directory: a file is seen as it was when the proxy started.
	Files []string
	UID   int // its user, and
	GID   int // group: the host's ProxyGID
	// Network lets it connect to other machines: their proxies, etcd. Without,
	// it still serves Listen, for the sockets are made outside, and reaches
	// etcd by a unix socket among Files.
	Network bool
}

type proxy struct {
	Proxy
	Beside                 bool
	Root, Instances, State string
	Sockets                []proxySocket
}

type proxySocket struct {
	Unit, Kind, Name string
	Listen           []string
}

// sockets are the socket units that the proxy has.
func (p Proxy) sockets() (all []proxySocket) {
	for _, s := range []proxySocket{
		{ProxySocket, "for clients", "http", p.Listen},
		{ProxyTLSSocket, "for clients over TLS", "https", p.ListenTLS},
		{ProxyPeerSocket, "for other hosts", "peer", p.ListenPeer},
	} {
		if len(s.Listen) > 0 {
			all = append(all, s)
		}
	}
	return all
}

// ProxyRoot is the empty directory that the proxy's jail is built on.
func ProxyRoot(p cluster.Paths) string { return path.Join(p.Run, "proxy-root") }

// ProxyState is where the proxy may write, same path in its jail: it keeps
// its last good routes there.
func ProxyState(p cluster.Paths) string { return path.Join(p.State, "proxy") }

// RenderProxy returns the units of the host's proxy: a socket unit for each
// kind of socket that it has, and then its service. The directories that it
// names ([ProxyRoot], [ProxyState], <run>/instances) must exist before it
// starts.
func RenderProxy(host cluster.Host, p Proxy) ([]Unit, error) {
	d, err := p.on(host)
	if err != nil {
		return nil, err
	}
	var us []Unit
	for _, s := range d.Sockets {
		u, err := render(s, []file{{s.Unit, "proxy.socket"}})
		if err != nil {
			return nil, err
		}
		us = append(us, u...)
	}
	service, err := render(d, []file{{ProxyService, "proxy.service"}})
	return append(us, service...), err
}

// RenderBeside returns [ProxyBeside]: a second proxy on the same sockets, for
// as long as the first is replaced and answers its last requests. systemd hands
// a socket to each service that names it (systemd.service(5), Sockets=).
func RenderBeside(host cluster.Host, p Proxy) (Unit, error) {
	d, err := p.on(host)
	if err != nil {
		return Unit{}, err
	}
	d.Beside = true
	us, err := render(d, []file{{ProxyBeside, "proxy.service"}})
	if err != nil {
		return Unit{}, err
	}
	return us[0], nil
}

// on is the proxy with the paths of its host, checked.
func (p Proxy) on(host cluster.Host) (proxy, error) {
	d := proxy{
		Proxy: p, Root: ProxyRoot(host.Paths), State: ProxyState(host.Paths), Instances: path.Join(host.Paths.Run, "instances"),
		Sockets: p.sockets(),
	}
	if err := d.check(host.Paths); err != nil {
		return d, fmt.Errorf("cannot render the proxy's units: %w", err)
	}
	return d, nil
}

func (d proxy) check(paths cluster.Paths) error {
	if err := checkPaths(append([]string{paths.Run, paths.State, d.Binary}, d.Files...)...); err != nil {
		return err
	}
	if len(d.Sockets) == 0 {
		return errors.New("it listens on nothing: want at least one of Listen, ListenTLS and ListenPeer")
	}
	for _, word := range slices.Concat(d.Args, d.Listen, d.ListenTLS, d.ListenPeer) {
		if word == "" || strings.ContainsAny(word, " \t\n\"'\\%$;") {
			return fmt.Errorf("%q: a unit file can't hold it unquoted", word)
		}
	}
	if d.UID <= 0 || d.GID <= 0 {
		return fmt.Errorf("user %d, group %d: want a user and a group other than root", d.UID, d.GID)
	}
	return nil
}
