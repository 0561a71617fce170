package host

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/internal/etcd"
	"bulkhead/test/host/fleet"
)

// clusters counts those that this process has begun: each has a name of its own.
var clusters atomic.Int64

// Fleet is a cluster of test hosts.
type Fleet struct {
	Hosts []*Host
	t     testing.TB
	fleet *fleet.Fleet
}

// Cluster brings up a cluster of n hosts named h1, h2 and so on, provisioned by
// Ignition, with etcd's users in force, and removes it when the test ends. The
// binaries must be in bin/ (scripts/build). It skips the test where there is no
// root or no Docker.
func Cluster(t testing.TB, n int) *Fleet {
	t.Helper()
	need(t)
	root, err := filepath.Abs(fleetRoot())
	if err != nil {
		t.Fatal(err)
	}
	// Not t.TempDir: keys are to be in a directory that only we can read.
	dir, err := os.MkdirTemp("", "bulkhead-fleet-")
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet.Fleet{Name: fmt.Sprintf("t%d-%d", os.Getpid(), clusters.Add(1)), Dir: dir, Root: root, Say: t.Logf}
	c := &Fleet{t: t, fleet: f}
	t.Cleanup(c.remove)
	if err := fleet.Up(t.Context(), f, n); err != nil {
		t.Fatal(err)
	}
	for _, h := range f.Hosts {
		c.Hosts = append(c.Hosts, &Host{Name: string(h.Container), Node: h.Name, t: t, ip: h.Address})
	}
	return c
}

// Host returns the host of this name.
func (c *Fleet) Host(node string) *Host {
	c.t.Helper()
	for _, h := range c.Hosts {
		if h.Node == node {
			return h
		}
	}
	c.t.Fatalf("the cluster has no host %s", node)
	return nil
}

// Proxy is the URL of the host's proxy, in a cluster.
func (h *Host) Proxy() string { return fmt.Sprintf("http://%s:%d", h.Address(), fleet.HTTPPort) }

// Try runs bulkhead on this machine as the cluster's operator, and returns
// what it printed, both outputs together, and its error.
func (c *Fleet) Try(args ...string) (string, error) {
	out, err := c.fleet.Bulkhead(c.t.Context(), args...).CombinedOutput()
	return string(out), err
}

// Bulkhead runs bulkhead on this machine as the cluster's operator, and returns
// its standard output. It fails the test when the command fails.
func (c *Fleet) Bulkhead(args ...string) string { return c.run("bulkhead", args) }

// Etcdctl does the same with etcdctl, as root.
func (c *Fleet) Etcdctl(args ...string) string { return c.run("etcdctl", args) }

func (c *Fleet) run(name string, args []string) string {
	c.t.Helper()
	cmd := c.fleet.Command(c.t.Context(), name, args...)
	if name == "bulkhead" {
		cmd = c.fleet.Bulkhead(c.t.Context(), args...)
	}
	var problems strings.Builder
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		c.t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, problems.String())
	}
	return string(out)
}

// Client is etcd's client with the root certificate; it ends with the test.
func (c *Fleet) Client() *clientv3.Client {
	c.t.Helper()
	cli, err := etcd.Open(c.fleet.EtcdConfig())
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { cli.Close() })
	return cli
}

// As is etcd's client with the certificate of that name of a host: agent,
// proxy or scheduler. It ends with the test.
func (c *Fleet) As(node, certificate string) *clientv3.Client {
	c.t.Helper()
	config := c.fleet.EtcdConfig()
	base := filepath.Join(c.fleet.Dir, "pki", "hosts", node, certificate)
	config.Cert, config.Key = base+".crt", base+".key"
	cli, err := etcd.Open(config)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { cli.Close() })
	return cli
}

// File is the path of a file of the cluster's state on this machine:
// cluster.yaml, pki/…, artifacts/…, out/….
func (c *Fleet) File(name string) string { return filepath.Join(c.fleet.Dir, name) }

func (c *Fleet) remove() {
	if err := c.fleet.Down(context.Background()); err != nil {
		c.t.Error(err)
	}
}

func fleetRoot() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}

// keyLine is a line of a host's key, by which to know it.
func (c *Fleet) keyLine(node string) string {
	c.t.Helper()
	data, err := os.ReadFile(c.File("pki/hosts/" + node + "/agent.key"))
	if err != nil {
		c.t.Fatal(err)
	}
	return strings.Split(string(data), "\n")[2]
}
