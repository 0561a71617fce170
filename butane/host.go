package butane

import (
	"bytes"
	"cmp"
	"embed"
	"fmt"
	"maps"
	"net"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"bulkhead/butane/pki"
	"bulkhead/cluster"
)

// ProxyUser is the user of a host's proxy, who must be able to read its own
// keys: agent.ProxyUID.
const ProxyUser = 400000

// Where things are on a host.
const (
	binDir   = "/opt/bulkhead/bin" // a link to the release in force
	releases = "/opt/bulkhead/releases"
	image    = "/opt/bulkhead/" + ImageFile
	etcDir   = "/etc/bulkhead"
	keysDir  = etcDir + "/pki"
	proxyDir = keysDir + "/proxy" // keys that the proxy itself reads

	// authorityDir has what the proxy reads and others do too.
	authorityDir = keysDir + "/ca"
)

// Input is what a host's configuration is made from.
type Input struct {
	Fleet     cluster.Fleet
	Host      cluster.FleetHost
	Artifacts Artifacts
	Keys      []pki.File // its certificates and keys
	TLS       []pki.File // tls.crt and tls.key of the proxies for clients, if any
	// Joins: etcd's cluster is there already, and was told of this member.
	Joins bool
}

// file is a file on the host: fetched from Source, whose digest is Hash, or
// with Text in it.
type file struct {
	Path         string
	Mode         int
	User         int
	Source, Hash string
	Text         string
}

// unit is a systemd unit: with Text, or one of the system's own.
type unit struct {
	Name   string
	Text   string
	DropIn string
	Enable bool
	Mask   bool
}

//go:embed templates
var sources embed.FS

var templates = template.Must(template.New("").Funcs(template.FuncMap{"indent": indent, "join": strings.Join}).ParseFS(sources, "templates/*"))

// host is what the templates are filled from.
type host struct {
	Input
	Version string // of the variant's specification
	Files   []file
	Units   []unit
}

// newHost decides what a host gets.
func newHost(in Input) (*host, error) {
	h := &host{Input: in, Version: map[string]string{"fcos": "1.7.0", "flatcar": "1.1.0"}[in.Fleet.Variant]}
	if h.Version == "" {
		return nil, fmt.Errorf("variant %q is neither fcos nor flatcar", in.Fleet.Variant)
	}
	for _, name := range cluster.Binaries {
		h.fetch(path.Join(releases, h.ReleaseDir(), name), name, 0o755)
	}
	h.Files = append(h.Files, file{Path: path.Join(releases, h.ReleaseDir(), "manifest.json"), Mode: 0o644, Text: string(in.Artifacts.Release().Text())})
	h.Files = append(h.Files, file{Path: "/etc/hostname", Mode: 0o644, Text: in.Host.Name + "\n"})
	h.keys()
	err := h.texts(map[string]string{
		"/etc/sysctl.d/60-bulkhead.conf":                "sysctl.conf",
		"/etc/systemd/journald.conf.d/60-bulkhead.conf": "journald.conf",
	})
	if err == nil && in.Host.Is(cluster.RoleControl) {
		err = h.control()
	}
	if err == nil && in.Host.Is(cluster.RoleHost) {
		err = h.worker()
	}
	if err == nil && in.Host.Is(cluster.RoleBuilder) {
		err = h.all(nil, "bulkhead-builder.service")
	}
	if err == nil {
		err = h.updates()
	}
	slices.SortFunc(h.Files, func(a, b file) int { return strings.Compare(a.Path, b.Path) })
	return h, err
}

// control is etcd and a scheduler.
func (h *host) control() error {
	return h.all(map[string]string{etcDir + "/etcd.yaml": "etcd.yaml"}, "bulkhead-etcd.service", "bulkhead-scheduler.service")
}

// worker is Docker and the agent, which runs the rest.
func (h *host) worker() error {
	h.fetch(image, ImageFile, 0o644)
	dropIn, err := h.text("docker.conf")
	if err != nil {
		return err
	}
	h.Units = append(h.Units, unit{Name: "docker.service", DropIn: dropIn, Enable: true})
	return h.all(map[string]string{
		"/etc/docker/daemon.json":                              "daemon.json",
		"/etc/sysctl.d/61-bulkhead.conf":                       "forward.conf",
		"/etc/systemd/network/10-bulkhead.network":             "bulkhead.network",
		"/etc/systemd/system/bulkhead-action-reboot.service":   "bulkhead-action-reboot.service",
		"/etc/systemd/system/bulkhead-cells.target":            "bulkhead-cells.target",
		"/etc/systemd/system/bulkhead.slice":                   "bulkhead.slice",
		"/etc/systemd/system/bulkhead_cells.slice":             "bulkhead_cells.slice",
		"/etc/systemd/system/docker-.scope.d/60-bulkhead.conf": "cells.conf",
		"/etc/systemd/system/system.slice.d/60-bulkhead.conf":  "system.conf",
	}, "bulkhead-agent.service")
}

// updates has the machine ask before it reboots into a new system.
func (h *host) updates() error {
	if h.Fleet.Variant == "flatcar" {
		// update-engine fetches; whoever reboots takes the lock first.
		h.Units = append(h.Units, unit{Name: "locksmithd.service", Mask: true})
		return nil
	}
	return h.texts(map[string]string{"/etc/zincati/config.d/55-bulkhead.toml": "zincati.toml"})
}

func (h *host) all(files map[string]string, units ...string) error {
	for _, name := range units {
		text, err := h.text(name)
		if err != nil {
			return err
		}
		h.Units = append(h.Units, unit{Name: name, Text: text, Enable: true})
	}
	return h.texts(files)
}

func (h *host) texts(files map[string]string) error {
	for _, at := range slices.Sorted(maps.Keys(files)) {
		text, err := h.text(files[at])
		if err != nil {
			return err
		}
		h.Files = append(h.Files, file{Path: at, Mode: 0o644, Text: text})
	}
	return nil
}

func (h *host) text(name string) (string, error) {
	var b bytes.Buffer
	if err := templates.ExecuteTemplate(&b, name, h); err != nil {
		return "", fmt.Errorf("cannot fill %s: %w", name, err)
	}
	return b.String(), nil
}

func (h *host) fetch(to, name string, mode int) {
	h.Files = append(h.Files, file{Path: to, Mode: mode, Source: h.Fleet.Artifacts + name, Hash: "sha256-" + h.Artifacts.SHA256[name]})
}

// Place is where a certificate or a key belongs on a host.
type Place struct {
	Path string
	Mode int
	User int // owner and group; 0 is root
	Data []byte
}

// Placed puts each certificate where who needs it can read it, and nobody else.
func Placed(keys []pki.File) []Place {
	var all []Place
	for _, k := range keys {
		p := Place{keysDir + "/" + k.Name, 0o600, 0, k.Data}
		switch name := strings.TrimSuffix(k.Name, path.Ext(k.Name)); name {
		case pki.Proxy, pki.Peer, pki.PeerCA, clientTLS:
			p.Path, p.User = proxyDir+"/"+k.Name, ProxyUser
		case pki.EtcdCA:
			p.Path, p.Mode = authorityDir+"/"+k.Name, 0o644 // no secret, and read by all
		}
		all = append(all, p)
	}
	return all
}

// clientTLS is the name of the proxies' certificate for clients.
const clientTLS = "tls"

func (h *host) keys() {
	for _, p := range Placed(append(slices.Clone(h.Keys), h.TLS...)) {
		h.Files = append(h.Files, file{Path: p.Path, Mode: p.Mode, User: p.User, Text: string(p.Data)})
	}
}

// InitialCluster is etcd's list of members.
func (h *host) InitialCluster() string {
	var all []string
	for _, m := range h.Fleet.Members() {
		all = append(all, m.Name+"="+h.URL(m.Address, h.Fleet.Listen.EtcdPeers))
	}
	return strings.Join(all, ",")
}

// URL is an https URL of an address and a port.
func (h *host) URL(address string, port int) string {
	return "https://" + net.JoinHostPort(address, strconv.Itoa(port))
}

// Etcd is where clients on this host find etcd.
func (h *host) Etcd() string { return strings.Join(h.Fleet.Endpoints(), ",") }

// PeerAddress is where this host's proxy listens for others.
func (h *host) PeerAddress() string { return h.Fleet.PeerAddress(h.Host) }

// ReleaseDir is the name of the directory of the release that it is made with.
func (h *host) ReleaseDir() string { return cluster.ReleaseDir(h.Artifacts.Release().Digest()) }

// Lock is where this host's agent answers its machine's updates: the address
// that they are told to ask at, if it is one of loopback; else somebody else
// answers them.
func (h *host) Lock() string {
	u, err := url.Parse(h.Fleet.Update.Lock)
	if err != nil {
		return ""
	}
	if ip := net.ParseIP(u.Hostname()); ip == nil || !ip.IsLoopback() {
		return ""
	}
	return net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "80"))
}

// Labels are the host's labels as flags take them, sorted.
func (h *host) Labels() []string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(h.Host.Labels)) {
		all = append(all, name+"="+h.Host.Labels[name])
	}
	return all
}

func indent(by int, text string) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i, line := range lines {
		if line != "" {
			lines[i] = strings.Repeat(" ", by) + line
		}
	}
	return strings.Join(lines, "\n")
}
