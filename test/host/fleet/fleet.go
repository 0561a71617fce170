package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"bulkhead/cluster"
	"bulkhead/internal/kept"
)

// Fleet is a cluster of test hosts. Up makes one, Open finds one.
type Fleet struct {
	Name    string  `json:"name"`
	Subnet  string  `json:"subnet"`  // 10.213.0.0/24
	Gateway string  `json:"gateway"` // this machine's address on the hosts' network
	Port    int     `json:"port"`    // where artifacts are served there, while hosts are made
	Hosts   []*Host `json:"hosts"`

	// For Vagrant, which makes the containers itself.
	Image string   `json:"image"`
	Needs []string `json:"needs"`

	Dir  string                           `json:"-"` // state: cluster.yaml, certificates, artifacts
	Root string                           `json:"-"` // of the source tree, with bin/ built
	Say  func(format string, args ...any) `json:"-"` // told of each step
}

// Host is one host of a fleet.
type Host struct {
	Name      string    `json:"name"` // in the cluster
	Container Container `json:"container"`
	Address   string    `json:"address"`
	Roles     []string  `json:"roles"`
}

// Ports of every host.
const (
	HTTPPort = 8080
	etcdPort = 2379
)

// label marks what belongs to a fleet: label=<name>.
const label = "io.bulkhead.cluster"

func (f *Fleet) file(name string) string { return filepath.Join(f.Dir, name) }

func (f *Fleet) network() string { return "bulkhead-" + f.Name }

// Open reads the state of a fleet that Up has made. Its error wraps
// [fs.ErrNotExist] when there is none.
func Open(dir, root string) (*Fleet, error) {
	f := &Fleet{Dir: dir, Root: root, Say: func(string, ...any) {}}
	data, err := os.ReadFile(f.file("state.json"))
	if err == nil {
		err = json.Unmarshal(data, f)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open the cluster in %s: %w", dir, err)
	}
	return f, nil
}

func (f *Fleet) save() error {
	data, err := json.MarshalIndent(f, "", "  ")
	if err == nil {
		err = kept.Write(f.file("state.json"), append(data, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("cannot keep the cluster's state: %w", err)
	}
	return nil
}

// Host returns the host of a name; nil when there is none.
func (f *Fleet) Host(name string) *Host {
	for _, h := range f.Hosts {
		if h.Name == name {
			return h
		}
	}
	return nil
}

// Endpoints are etcd's URLs, as a flag takes them.
func (f *Fleet) Endpoints() string {
	var urls []string
	for _, h := range f.Hosts {
		for _, role := range h.Roles {
			if role == cluster.RoleControl {
				urls = append(urls, fmt.Sprintf("https://%s:%d", h.Address, etcdPort))
			}
		}
	}
	return strings.Join(urls, ",")
}

// Env is the environment in which bulkhead and etcdctl on this machine reach
// the cluster as its operator.
func (f *Fleet) Env() []string {
	return []string{
		"ETCDCTL_API=3",
		"BULKHEAD_ENDPOINTS=" + f.Endpoints(), "ETCDCTL_ENDPOINTS=" + f.Endpoints(),
		"ETCDCTL_CACERT=" + f.file("pki/etcd-ca.crt"), "ETCDCTL_CERT=" + f.file("pki/root.crt"), "ETCDCTL_KEY=" + f.file("pki/root.key"),
		"BULKHEAD_PROXY=" + f.Hosts[0].Proxy(), "BULKHEAD_OPENING_KEYS=" + f.file("pki/opening-keys.json"),
	}
}

// Proxy is the URL of a host's proxy.
func (h *Host) Proxy() string { return fmt.Sprintf("http://%s:%d", h.Address, HTTPPort) }

// Command is a command on this machine, in the operator's environment.
func (f *Fleet) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), f.Env()...)
	return cmd
}

// Bulkhead is the built bulkhead, in the operator's environment.
func (f *Fleet) Bulkhead(ctx context.Context, args ...string) *exec.Cmd {
	return f.Command(ctx, filepath.Join(f.Root, "bin", "bulkhead"), args...)
}

// Down removes the hosts, by name, their network and all state. What isn't
// there is no error.
func (f *Fleet) Down(ctx context.Context) error {
	names, err := docker(ctx, "ps", "--all", "--filter", "label="+label+"="+f.Name, "--format", "{{.Names}}")
	if err != nil {
		return err
	}
	if err := each(strings.Fields(names), func(name string) error { return Container(name).Remove(ctx) }); err != nil {
		return err
	}
	if _, err := docker(ctx, "network", "rm", f.network()); err != nil && !strings.Contains(err.Error(), "No such network") {
		return err
	}
	f.Say("removed %d hosts and network %s", len(strings.Fields(names)), f.network())
	if err := os.RemoveAll(f.Dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove the cluster's state: %w", err)
	}
	return nil
}
