package fleet

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
	"bulkhead/internal/kept"
)

// readyTime is how long the hosts may take from their boot to their presence
// in etcd.
const readyTime = 120 * time.Second

// Up brings up a fleet of n hosts, of which the first three (or one, where
// there are fewer) are etcd's members too, or completes one that is there. It
// returns when every host says in etcd that it is there.
func Up(ctx context.Context, f *Fleet, n int) error {
	if err := Prepare(ctx, f, n); err != nil {
		return err
	}
	return f.steps(ctx, step{"hosts", f.boot}, step{"users and inventory", f.apply}, step{"presence", f.await})
}

// Prepare does all that comes before the hosts themselves: their image, their
// network, what they fetch and what they are made from.
func Prepare(ctx context.Context, f *Fleet, n int) error {
	if old, err := Open(f.Dir, f.Root); err == nil {
		if len(old.Hosts) != n {
			return fmt.Errorf("cluster %s is there with %d hosts: take it down first for %d", f.Name, len(old.Hosts), n)
		}
		f.Subnet, f.Gateway, f.Port, f.Hosts = old.Subnet, old.Gateway, old.Port, old.Hosts
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(f.Dir, 0o700); err != nil {
		return fmt.Errorf("cannot make the cluster's directory: %w", err)
	}
	return f.steps(ctx, step{"test hosts' image", func(context.Context) (err error) { f.Image, err = Image(); return err }},
		step{"network", f.ensureNetwork}, step{"artifacts", f.gather},
		step{"plan", func(ctx context.Context) error { f.plan(n); return f.render(ctx) }})
}

// Ready gives the hosts that somebody else has started their users, and waits
// until all say in etcd that they are there.
func (f *Fleet) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bootTime)
	defer cancel()
	for {
		err := f.apply(ctx)
		if err == nil {
			return f.await(ctx)
		}
		select {
		case <-time.After(time.Second): // nobody tells when etcd answers
		case <-ctx.Done():
			return err
		}
	}
}

// step is a part of the way up.
type step struct {
	name string
	do   func(context.Context) error
}

func (f *Fleet) steps(ctx context.Context, steps ...step) error {
	for _, s := range steps {
		began := time.Now()
		if err := s.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		f.Say("%-20s %5.1f s", s.name, time.Since(began).Seconds())
	}
	return nil
}

// ensureNetwork makes the hosts' network, on a subnet that nothing uses.
func (f *Fleet) ensureNetwork(ctx context.Context) error {
	if f.Subnet != "" {
		if _, err := docker(ctx, "network", "inspect", f.network()); err == nil {
			return nil
		}
	}
	for i := range 256 {
		subnet := fmt.Sprintf("10.213.%d.0/24", i)
		gateway := fmt.Sprintf("10.213.%d.1", i)
		_, err := docker(ctx, "network", "create", "--label", label+"="+f.Name, "--subnet", subnet, "--gateway", gateway, f.network())
		if err != nil && strings.Contains(err.Error(), "overlaps") {
			continue
		}
		if err != nil {
			return err
		}
		f.Subnet, f.Gateway = subnet, gateway
		return nil
	}
	return errors.New("every subnet of 10.213.0.0/16 is in use")
}

// plan decides who is who.
func (f *Fleet) plan(n int) {
	if len(f.Hosts) > 0 {
		return
	}
	members := 3
	if n < 3 {
		members = 1
	}
	base := netip.MustParsePrefix(f.Subnet).Addr().As4()
	for i := range n {
		base[3] = byte(11 + i)
		h := &Host{Name: fmt.Sprintf("h%d", i+1), Address: netip.AddrFrom4(base).String(), Roles: []string{cluster.RoleHost}}
		h.Container = Container("bulkhead-" + f.Name + "-" + h.Name)
		if i < members {
			h.Roles = append(h.Roles, cluster.RoleControl)
		}
		f.Hosts = append(f.Hosts, h)
	}
}

// describe writes cluster.yaml.
func (f *Fleet) describe(artifacts string) error {
	zones := []string{"a", "b", "c"}
	spec := cluster.DefaultFleet()
	spec.Name, spec.Artifacts = f.Name, artifacts
	spec.Listen.HTTP = []string{fmt.Sprintf("0.0.0.0:%d", HTTPPort)}
	spec.Listen.HTTPS = []string{}
	for i, h := range f.Hosts {
		spec.Hosts = append(spec.Hosts, cluster.FleetHost{Name: h.Name, Address: h.Address, Roles: h.Roles, Labels: map[string]string{"zone": zones[i%len(zones)]}})
	}
	data, err := yaml.Marshal(spec)
	if err == nil {
		err = kept.Write(f.file("cluster.yaml"), data, 0o644)
	}
	return err
}

// render writes what the hosts are made from, and the fleet's state.
func (f *Fleet) render(ctx context.Context) error {
	end, err := f.serve() // which chooses a port, at first
	if err != nil {
		return err
	}
	end()
	if err := f.describe(fmt.Sprintf("http://%s:%d/", f.Gateway, f.Port)); err != nil {
		return err
	}
	render := f.Bulkhead(ctx, "butane", "render", "--cluster", f.file("cluster.yaml"), "--pki", f.file("pki"), "--artifacts", f.file("artifacts"), "--out", f.file("out"))
	if out, err := render.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot render: %w\n%s", err, out)
	}
	f.Needs = Needs()
	return f.save()
}

// boot provisions and starts the hosts that aren't there, and starts those
// that are.
func (f *Fleet) boot(ctx context.Context) error {
	end, err := f.serve()
	if err != nil {
		return err
	}
	defer end()
	if err := each(f.Hosts, func(h *Host) error { return f.start(ctx, h) }); err != nil {
		return err
	}
	return each(f.Hosts, func(h *Host) error { return h.Container.Await(ctx) })
}

func (f *Fleet) start(ctx context.Context, h *Host) error {
	if _, err := docker(ctx, "inspect", string(h.Container)); err != nil {
		if err := h.Container.Create(ctx, h.Name, "--label", label+"="+f.Name, "--network", f.network(), "--ip", h.Address); err != nil {
			return err
		}
		if _, err := docker(ctx, "cp", f.file("out/"+h.Name+".ign"), string(h.Container)+":/etc/ignition.ign"); err != nil {
			return err
		}
	}
	return h.Container.Start(ctx)
}

// apply gives every host its users in etcd.
func (f *Fleet) apply(ctx context.Context) error {
	if out, err := f.Bulkhead(ctx, "cluster", "apply", "-f", f.file("cluster.yaml")).CombinedOutput(); err != nil {
		return fmt.Errorf("cannot apply cluster.yaml: %w\n%s", err, out)
	}
	return nil
}

// await waits until every host is present in etcd.
func (f *Fleet) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	cli, err := etcd.Open(f.EtcdConfig())
	if err != nil {
		return err
	}
	defer cli.Close()
	missing := map[string]bool{}
	for _, h := range f.Hosts {
		missing[cluster.HostKey(h.Name)] = true
	}
	for b := range etcd.Watch(ctx, cli, cluster.HostsPrefix) {
		for _, e := range b.Events {
			if !e.Deleted {
				delete(missing, e.Key)
			}
		}
		if len(missing) == 0 {
			return nil
		}
	}
	return fmt.Errorf("not within %s: %d hosts say that they are there: %w", readyTime, len(f.Hosts)-len(missing), ctx.Err())
}

// EtcdConfig is how the operator reaches the fleet's etcd.
func (f *Fleet) EtcdConfig() etcd.Config {
	return etcd.Config{
		Endpoints: strings.Split(f.Endpoints(), ","),
		CA:        f.file("pki/etcd-ca.crt"), Cert: f.file("pki/root.crt"), Key: f.file("pki/root.key"),
	}
}
