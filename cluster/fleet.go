package cluster

import (
	"net"
	"slices"
	"strconv"
)

// Fleet is what an operator says about a cluster's machines, in the file
// cluster.yaml: what they are provisioned from, and who may do what in etcd.
// Every field but Name and Hosts has a default ([DefaultFleet]).
type Fleet struct {
	Name      string      `json:"name"`                // of the cluster: a DNS label; members of another are refused
	Variant   string      `json:"variant"`             // fcos or flatcar: what the machines run
	Domain    string      `json:"domain,omitempty"`    // proxies serve <tenant>.Domain too
	Hosts     []FleetHost `json:"hosts"`               // at least one, with an odd number of control hosts
	Artifacts string      `json:"artifacts"`           // URL of the directory that binaries and image are fetched from
	Listen    FleetListen `json:"listen,omitzero"`     // what proxies and etcd listen on
	TLS       *FleetTLS   `json:"tls,omitempty"`       // certificate of the proxies for clients; nil: none
	ACME      *FleetACME  `json:"acme,omitempty"`      // or how they get one by themselves
	Update    FleetUpdate `json:"update,omitzero"`     // of the machines' system
	KMS       string      `json:"kms,omitempty"`       // unix socket of the plug-in on each host that wraps the keys that open secrets; "": none does
	SSH       []string    `json:"ssh,omitempty"`       // public keys of those who may log in as core
	Operators []string    `json:"operators,omitempty"` // names of those who run it, beside root
	Pool      int         `json:"pool,omitempty"`      // blank cells kept on each host
	Promise   float64     `json:"promise,omitempty"`   // cores promised to tenants for each that there is
}

// FleetHost is one machine.
type FleetHost struct {
	Name    string            `json:"name"`
	Address string            `json:"address"`          // IP address by which the others reach it
	Roles   []string          `json:"roles"`            // of control (etcd and scheduler), host (agent, proxy, tenants) and, beside host, builder (of npm modules)
	Labels  map[string]string `json:"labels,omitempty"` // for placement
	Caps    FleetCaps         `json:"caps,omitzero"`    // most that tenants may use of it
}

// FleetCaps bound what tenants use of a host, whatever it says of itself; zero
// leaves that to the host.
type FleetCaps struct {
	Memory Bytes   `json:"memory,omitempty"`
	CPU    float64 `json:"cpu,omitempty"`
	Pids   int     `json:"pids,omitempty"`
}

// FleetListen are addresses and ports, the same on every host.
type FleetListen struct {
	HTTP      []string `json:"http"`       // addresses for clients, as host:port
	HTTPS     []string `json:"https"`      // likewise, with TLS
	Peers     int      `json:"peers"`      // port for other hosts' proxies
	Etcd      int      `json:"etcd"`       // port of etcd for its clients
	EtcdPeers int      `json:"etcd_peers"` // port of etcd for its other members
	EtcdHTTP  int      `json:"etcd_http"`  // port of etcd's health and metrics, on loopback
}

// FleetTLS names files in the operator's directory.
type FleetTLS struct {
	Cert string `json:"cert"` // PEM, with the chain
	Key  string `json:"key"`
}

// FleetACME says where the proxies get their certificates (RFC 8555).
type FleetACME struct {
	Directory string `json:"directory"` // URL of the authority's directory
	Email     string `json:"email"`
}

// FleetUpdate is how the machines' own system is kept new.
type FleetUpdate struct {
	Group string `json:"group"` // hosts of one group are rebooted one at a time
	Lock  string `json:"lock"`  // base URL of who grants reboots (the FleetLock protocol)
}

// Roles of a host.
const (
	RoleControl = "control"
	RoleHost    = "host"
	RoleBuilder = "builder" // beside host: its agent hands out what is built
)

// DefaultFleet is a fleet with everything but its name, its hosts and where
// their artifacts are.
func DefaultFleet() Fleet {
	return Fleet{
		Variant: "fcos",
		Listen:  FleetListen{HTTP: []string{"0.0.0.0:80"}, Peers: 8443, Etcd: 2379, EtcdPeers: 2380, EtcdHTTP: 2381},
		Update:  FleetUpdate{Group: "default", Lock: "http://127.0.0.1:8090/"},
		Pool:    2, Promise: 8,
	}
}

// Is reports whether the host has a role.
func (h FleetHost) Is(role string) bool { return slices.Contains(h.Roles, role) }

// Inventory is what the host may claim to be, for [InventoryKey].
func (f Fleet) Inventory(h FleetHost) Inventory {
	return Inventory{Labels: h.Labels, Address: f.PeerAddress(h), Memory: h.Caps.Memory, CPU: h.Caps.CPU, Pids: h.Caps.Pids, Member: h.Is(RoleControl)}
}

// PeerAddress is where a host's proxy takes other proxies' requests.
func (f Fleet) PeerAddress(h FleetHost) string {
	return net.JoinHostPort(h.Address, strconv.Itoa(f.Listen.Peers))
}

// Endpoints are the URLs of etcd for its clients.
func (f Fleet) Endpoints() []string {
	var urls []string
	for _, h := range f.Members() {
		urls = append(urls, "https://"+net.JoinHostPort(h.Address, strconv.Itoa(f.Listen.Etcd)))
	}
	return urls
}

// Members are the hosts that run etcd and schedulers.
func (f Fleet) Members() []FleetHost { return f.with(RoleControl) }

// Workers are the hosts that run tenants.
func (f Fleet) Workers() []FleetHost { return f.with(RoleHost) }

func (f Fleet) with(role string) []FleetHost {
	var hosts []FleetHost
	for _, h := range f.Hosts {
		if h.Is(role) {
			hosts = append(hosts, h)
		}
	}
	return hosts
}

// Host returns the host of a name; false when there is none.
func (f Fleet) Host(name string) (FleetHost, bool) {
	for _, h := range f.Hosts {
		if h.Name == name {
			return h, true
		}
	}
	return FleetHost{}, false
}
