package host

import (
	"context"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/test/host/fleet"
)

// A cluster is provisioned once by Ignition, comes back from a reboot as it
// was, and stays one when it is brought up again; what cuts hosts off does.
func TestClusterIsProvisionedOnceAndCanBeHarmed(t *testing.T) {
	c := Cluster(t, 3)
	h1, h2 := c.Host("h1"), c.Host("h2")
	if members := strings.Count(c.Etcdctl("member", "list"), "started"); members != 3 {
		t.Errorf("%d members", members)
	}
	for _, h := range c.Hosts {
		if name := strings.TrimSpace(h.Exec("cat", "/proc/sys/kernel/hostname")); name != h.Node {
			t.Errorf("host %s is called %s", h.Node, name)
		}
		if failed := strings.TrimSpace(h.Exec("systemctl", "list-units", "--failed", "--no-legend", "--plain")); failed != "" {
			t.Errorf("host %s: failed units: %s", h.Node, failed)
		}
		if out, err := h.Try("cat", "/etc/ignition.ign"); err == nil {
			t.Errorf("host %s still has its configuration of %d bytes, with its keys", h.Node, len(out))
		}
		for _, other := range c.Hosts {
			keys := h.Exec("sh", "-c", "cat /etc/bulkhead/pki/*.key /etc/bulkhead/pki/*/*.key")
			if line := c.keyLine(other.Node); strings.Contains(keys, line) != (h == other) {
				t.Errorf("host %s has host %s's key: %v", h.Node, other.Node, h != other)
			}
		}
	}
	h1.Exec("sh", "-c", "echo changed >>/etc/bulkhead/etcd.yaml.mark")
	provisioned := h1.Exec("cat", "/etc/.ignition-result.json")
	h1.Reboot()
	if h1.Exec("cat", "/etc/.ignition-result.json") != provisioned || h1.Exec("cat", "/etc/bulkhead/etcd.yaml.mark") != "changed\n" {
		t.Error("host h1 was provisioned again")
	}
	if err := fleet.Up(t.Context(), c.fleet, 3); err != nil {
		t.Fatalf("a second up: %v", err)
	}
	reaches := func(from, to *Host) bool {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		_, err := from.run(ctx, nil, "bash", "-c", "exec 3<>/dev/tcp/"+to.Address()+"/2379")
		return err == nil
	}
	h2.Partition(h1)
	if reaches(h2, h1) || reaches(h1, h2) || !reaches(h2, c.Host("h3")) {
		t.Error("host h2 is not cut off from h1 alone")
	}
	h2.Heal()
	h2.Partition()
	if reaches(h2, c.Host("h3")) {
		t.Error("host h2 is not cut off from all")
	}
	h2.Heal()
	if !reaches(h2, h1) || !reaches(h2, c.Host("h3")) {
		t.Error("host h2 is still cut off")
	}
	c.Host("h3").Kill()
	written(t, c.Client())
	c.Host("h3").Start()
}

// written waits until etcd takes a write: its leader may just have died, and
// what was on its way to it is refused after some seconds.
func written(t *testing.T, cli *clientv3.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for {
		_, err := cli.Put(ctx, "/test", "two of three members are enough")
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("two of three members take no write: %v", err)
		}
	}
}
