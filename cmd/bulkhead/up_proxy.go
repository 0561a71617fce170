package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"bulkhead/agent"
	"bulkhead/cluster"
	"bulkhead/units"
)

// proxyEtcdSocket is where the proxy reaches etcd. On a cluster of one machine
// it needs no network of its own: its listening sockets are handed to it.
func proxyEtcdSocket(run string) string { return filepath.Join(run, "etcd", "client.sock") }

// proxyEtcdDir makes a place for that socket.
func proxyEtcdDir(run string) (socket string, err error) {
	socket = proxyEtcdSocket(run)
	if err := os.MkdirAll(filepath.Dir(socket), 0o711); err != nil {
		return "", fmt.Errorf("cannot make a place for the proxy's way to etcd: %w", err)
	}
	return socket, nil
}

// admitProxy lets the proxy connect to the socket, and root, and nobody else.
func admitProxy(socket string) error {
	if err := errors.Join(os.Chown(socket, 0, agent.ProxyUID), os.Chmod(socket, 0o660)); err != nil {
		return fmt.Errorf("cannot let the proxy reach etcd: %w", err)
	}
	return nil
}

// proxyOptions say how a host's proxy serves.
type proxyOptions struct {
	listen, listenTLS, listenPeer []string

	domain  string
	address string // where other hosts' proxies reach it, host:port

	// What the proxy is told, by the names of its flags, and the same of files
	// that it reads.
	words, files map[string]*string
}

// clusterFlags are those that only a host of a cluster has.
func (o *proxyOptions) clusterFlags(f *pflag.FlagSet) {
	f.StringSliceVar(&o.listenTLS, "listen-tls", nil, "addresses that the proxy listens on for clients over TLS")
	f.StringSliceVar(&o.listenPeer, "listen-peer", nil, "addresses that the proxy listens on for other hosts' proxies")
	f.StringVar(&o.address, "address", "", "host:port where other hosts' proxies reach this host's")
	o.words, o.files = map[string]*string{}, map[string]*string{}
	for name, usage := range map[string]string{
		"acme-email":     "have the proxy's certificates issued by ACME; whom the authority may tell of problems",
		"acme-directory": "have the proxy's certificates issued by ACME; the authority's URL",
	} {
		o.words[name] = f.String(name, "", usage)
	}
	for name, usage := range map[string]string{
		"tls-cert":  "file: the certificate, with those above it, that the proxy shows to clients",
		"tls-key":   "file: its private key",
		"acme-ca":   "file: who signs for the ACME authority's own URL",
		"peer-ca":   "file: who signs the certificates of hosts' proxies",
		"peer-cert": "file: the certificate that the proxy shows to other hosts' proxies",
		"peer-key":  "file: its private key",
	} {
		o.files[name] = f.String(name, "", usage)
	}
}

// args are the arguments of the proxy that say how it serves, and the files
// that it reads.
func (o proxyOptions) args() (args, files []string) {
	if o.domain != "" {
		args = append(args, "--domain", o.domain)
	}
	for _, of := range []map[string]*string{o.words, o.files} {
		for _, name := range slices.Sorted(maps.Keys(of)) {
			if value := *of[name]; value != "" {
				args = append(args, "--"+name, value)
			}
		}
	}
	for _, file := range o.files {
		if *file != "" {
			files = append(files, *file)
		}
	}
	if *cmp.Or(o.words["acme-directory"], new(string)) != "" {
		files = append(files, whoToTrust...)
	}
	return args, files
}

// proxyWay is how a host's proxy reaches etcd.
type proxyWay struct {
	args    []string
	files   []string // that it may read
	network bool     // it opens connections itself
}

// proxyOverSocket is the way on a cluster of one machine.
func proxyOverSocket(run string) proxyWay {
	socket := proxyEtcdSocket(run)
	// The directory, not the socket, which is another one after a restart.
	return proxyWay{args: []string{"--endpoints", "unix://" + socket}, files: []string{filepath.Dir(socket)}}
}

// startProxy has a proxy serve, as it should be; what it returns replaces one
// of another version, unnoticed by clients. See [runProxy].
func startProxy(ctx context.Context, o hostOptions, host cluster.Host, services agent.Services, way proxyWay) (replace func(context.Context) error, err error) {
	binary, err := installBinary("bulkhead", filepath.Join(o.state, "bin"))
	if err != nil {
		return nil, err
	}
	serves, reads := o.args()
	args := append([]string{"proxy", "--host", host.Name, "--state", units.ProxyState(host.Paths)}, way.args...)
	p := units.Proxy{
		Binary: binary, Args: append(args, serves...), UID: agent.ProxyUID, GID: host.ProxyGID,
		Listen: o.listen, ListenTLS: o.listenTLS, ListenPeer: o.listenPeer,
		Files: visible(append(way.files, reads...)), Network: way.network,
	}
	for dir, owner := range map[string]int{units.ProxyRoot(host.Paths): 0, units.ProxyState(host.Paths): agent.ProxyUID, filepath.Join(o.run, "instances"): 0} {
		if err := errors.Join(os.MkdirAll(dir, 0o711), os.Chown(dir, owner, owner)); err != nil {
			return nil, fmt.Errorf("cannot make the proxy's directories: %w", err)
		}
	}
	return runProxy(ctx, host, p, services)
}

// visible is what of the host has to be in the proxy's jail for it to read
// files: their directories, since a file that is replaced by another of its
// name stays visible only there; but not one of the system's own.
func visible(files []string) []string {
	var all []string
	for _, f := range files {
		dir := filepath.Dir(f)
		if info, err := os.Stat(f); err == nil && !info.IsDir() && strings.Count(dir, "/") > 1 {
			f = dir
		}
		all = append(all, f)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// whoToTrust is what it takes to talk to an authority on the Internet.
var whoToTrust = []string{"/etc/hosts", "/etc/pki/ca-trust/extracted", "/etc/pki/tls/certs", "/etc/resolv.conf", "/etc/ssl/certs"}
