package pki

import (
	"crypto/x509"
	"net"
	"slices"
	"time"

	"bulkhead/cluster"
)

// Authorities, by the names of their files.
const (
	EtcdCA     = "etcd-ca"
	EtcdPeerCA = "etcd-peer-ca"
	PeerCA     = "peer-ca"
)

// Certificates of a host, by the names of their files.
const (
	EtcdServer = "etcd-server"
	EtcdPeer   = "etcd-peer"
	Scheduler  = "scheduler"
	Agent      = "agent"
	Proxy      = "proxy"
	Peer       = "peer"
	Builder    = "builder"
)

// Ring is the file of the keys that open secrets: package sealed. Hosts that run
// tenants get it, and of the others none.
const Ring = "opening-keys.json"

// root is the operator's certificate.
const root = "root"

const (
	authorityLife = 10 * 365 * 24 * time.Hour
	life          = 365 * 24 * time.Hour
	// early is how long before now a certificate begins to be good: hosts'
	// clocks differ.
	early = time.Hour
)

// wanted is a certificate as it should be.
type wanted struct {
	name      string // of its files, below the directory
	authority string
	common    string
	ips       []net.IP
	dns       []string
	usage     []x509.ExtKeyUsage
}

var (
	serves   = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	connects = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	both     = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
)

// wants are all certificates of a fleet but its authorities'.
func wants(f cluster.Fleet) []wanted {
	all := []wanted{{name: root, authority: EtcdCA, common: cluster.RootUser, usage: connects}}
	for _, name := range f.Operators {
		all = append(all, wanted{name: "operators/" + name, authority: EtcdCA, common: cluster.OperatorUser(name), usage: connects})
	}
	for _, h := range f.Hosts {
		all = append(all, hostWants(h)...)
	}
	return all
}

// hostWants are the certificates of one host, by its roles.
func hostWants(h cluster.FleetHost) []wanted {
	var all []wanted
	add := func(w wanted) {
		w.name = hostDir(h.Name) + w.name
		all = append(all, w)
	}
	address := net.ParseIP(h.Address)
	if h.Is(cluster.RoleControl) {
		add(wanted{
			name: EtcdServer, authority: EtcdCA, common: "etcd-" + h.Name, usage: serves,
			ips: []net.IP{address, net.IPv4(127, 0, 0, 1), net.IPv6loopback}, dns: []string{"localhost", h.Name},
		})
		add(wanted{name: EtcdPeer, authority: EtcdPeerCA, common: "etcd-" + h.Name, usage: both, ips: []net.IP{address}})
		add(wanted{name: Scheduler, authority: EtcdCA, common: cluster.SchedulerUser, usage: connects})
	}
	if h.Is(cluster.RoleHost) {
		add(wanted{name: Agent, authority: EtcdCA, common: cluster.AgentUser(h.Name), usage: connects})
		add(wanted{name: Proxy, authority: EtcdCA, common: cluster.ProxyUser(h.Name), usage: connects})
		name := cluster.PeerName(h.Name)
		add(wanted{name: Peer, authority: PeerCA, common: name, usage: both, dns: []string{name}})
	}
	if h.Is(cluster.RoleBuilder) {
		add(wanted{name: Builder, authority: EtcdCA, common: cluster.BuilderUser, usage: connects})
	}
	return all
}

func hostDir(host string) string { return "hosts/" + host + "/" }

// renewAt is when a certificate is made anew: when a third of its life is
// left.
func renewAt(c *x509.Certificate) time.Time {
	return c.NotAfter.Add(-c.NotAfter.Sub(c.NotBefore) / 3)
}

// why returns what is wrong with a certificate; empty: nothing.
func (w wanted) why(c, authority *x509.Certificate, now time.Time) string {
	switch {
	case c.CheckSignatureFrom(authority) != nil:
		return "another authority signed it"
	case !now.Before(renewAt(c)):
		return "a third of its life or less is left"
	case c.Subject.CommonName != w.common, !slices.Equal(c.DNSNames, w.dns), !slices.Equal(c.ExtKeyUsage, w.usage),
		!slices.EqualFunc(c.IPAddresses, w.ips, net.IP.Equal):
		return "it says something else than it should"
	}
	return ""
}
