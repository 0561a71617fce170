package fleet

import (
	"fmt"
	"slices"
	"strings"

	"bulkhead/cluster"
	"bulkhead/test/host"
	"bulkhead/test/load"
)

type hostNode = host.Host

// calls are to tenants of which one has two instances and one only one.
func (r *rig) calls() []load.Call {
	r.t.Helper()
	return []load.Call{r.hello("pair"), r.hello("single")}
}

// others are the proxies of all hosts but one.
func (r *rig) others(node string) (proxies []string) {
	for _, h := range r.Hosts {
		if h.Node != node {
			proxies = append(proxies, h.Proxy())
		}
	}
	return proxies
}

func drained(r *rig) {
	at := r.awaitServing("single", 1)[0]
	l := r.load(r.proxies, r.calls()...)
	r.Bulkhead("host", "drain", at, "--reason", "the test drains it", "--wait")
	if left := r.Etcdctl("get", "--prefix", "--keys-only", cluster.HostPlacements(at)); strings.TrimSpace(left) != "" {
		r.t.Errorf("host %s is drained and has %s", at, left)
	}
	if now := r.awaitServing("single", 1)[0]; now == at {
		r.t.Errorf("single is still on %s", at)
	}
	r.awaitServing("pair", 2)
	r.Bulkhead("host", "undrain", at)
	r.waits(l, 40)
	r.none(l)
}

// killed kills parts, one at a time, each of which is missed by nobody.
func killed(r *rig) {
	before := r.containers()
	calls := r.calls()
	for _, part := range []string{"bulkhead-scheduler", "bulkhead-etcd", "bulkhead-agent", "bulkhead-proxy"} {
		l := r.load(r.proxies, calls...)
		r.waits(l, 20)
		node := r.Hosts[0].Node
		if part == "bulkhead-scheduler" {
			node = r.leader()
		}
		pid := r.service(node, part)
		r.Host(node).Exec("systemctl", "kill", "--signal=KILL", part+".service")
		r.await(part+" of "+node+" runs again", func() bool {
			now := r.service(node, part)
			return now != pid && now != "0"
		})
		r.waits(l, 100)
		if part != "bulkhead-proxy" {
			r.none(l)
			continue
		}
		// What a killed proxy had in its hands is lost; nothing else is.
		if sent, failed := r.end(l); len(failed) > 5 {
			r.t.Errorf("killing a proxy lost %d of %d requests: %s", len(failed), sent, failed[0])
		}
	}
	r.await("a scheduler leads", func() bool { return r.leader() != "" })
	r.same(before)
}

// same fails the test when a container is not the one that it was.
func (r *rig) same(before []string) {
	r.t.Helper()
	if now := r.containers(); !slices.Equal(now, before) {
		r.t.Errorf("containers were %v, and are %v", before, now)
	}
}

// leader is the host whose scheduler leads.
func (r *rig) leader() string {
	out := r.Etcdctl("get", "--prefix", "--print-value-only", "--sort-by=CREATE", "--limit=1", cluster.ElectionPrefix)
	return strings.TrimSpace(out)
}

// service is the process of a service.
func (r *rig) service(node, unit string) string {
	return strings.TrimSpace(r.Host(node).Exec("systemctl", "show", "--property=MainPID", "--value", unit+".service"))
}

func dockerAndDisk(r *rig) {
	at := r.awaitServing("single", 1)[0]
	before := r.containers()
	calls := r.calls()
	l := r.load(r.proxies, calls...)
	r.Host(at).Exec("systemctl", "restart", "docker.service")
	r.await("the agent sees its containers again", func() bool {
		i := r.instances("single")
		return len(i) == 1 && i[0].Phase.Serves()
	})
	r.waits(l, 100)
	r.none(l)
	r.same(before)

	// The state directory gets a disk of its own, which is full.
	l = r.load(r.proxies, calls...)
	r.Host(at).Exec("sh", "-c", `set -e
		mkdir -p /mnt/full
		mount -t tmpfs -o mode=711,size=$(($(du -sm /var/lib/bulkhead | cut -f1) + 2))M tmpfs /mnt/full
		cp -a /var/lib/bulkhead/. /mnt/full/
		dd if=/dev/zero of=/mnt/full/fill bs=4k 2>/dev/null || true
		mount --bind /mnt/full /var/lib/bulkhead`)
	r.deploy("single", "late", "module.exports = (cb) => cb(null, 'late');") // which can't be kept on disk there
	r.waits(l, 100)
	journal := func(words string) func() bool {
		return func() bool {
			_, err := r.Host(at).Try("sh", "-c", "journalctl --unit=bulkhead-agent | grep -q '"+words+"'")
			return err == nil
		}
	}
	r.await("the agent says that its disk is full", journal("a reboot without etcd would not know of this.*no space left"))
	r.Host(at).Exec("umount", "/var/lib/bulkhead")
	r.await("the agent has kept it after all", journal("kept on disk after all"))
	r.none(l)
}

// partitioned cuts off the host of the only instance of a tenant: who is with
// it is served by it, who is not waits until it is replaced.
func partitioned(r *rig) {
	at := r.awaitServing("single", 1)[0]
	h := r.Host(at)
	pair := r.hello("pair")
	single := load.Call{Path: "/single/hello", Token: r.token("single"), Want: "hello from single"}
	rest := slices.DeleteFunc(slices.Clone(r.Hosts), func(other *hostNode) bool { return other.Node == at })
	l := r.load(r.others(at), pair)
	h.Partition(rest...)
	r.await("single is replaced", func() bool {
		i := slices.DeleteFunc(r.instances("single"), func(i cluster.Instance) bool { return i.Host == at || !i.Phase.Serves() })
		return len(i) > 0
	})
	if got := r.get(h.Proxy(), single); !strings.Contains(got, single.Want) {
		r.t.Errorf("on the host that is cut off single answers %s", got)
	}
	for _, p := range r.others(at) {
		if got := r.get(p, single); !strings.Contains(got, single.Want) {
			r.t.Errorf("on the others' side single answers %s", got)
		}
	}
	h.Heal()
	r.awaitServing("single", 1)
	r.awaitServing("pair", 2)
	r.waits(l, 40)
	// A request in flight to the host at the moment that it is cut off can't be
	// asked again.
	if sent, failed := r.end(l); len(failed) > 3 {
		r.t.Errorf("cutting off a host lost %d of %d requests through the others: %s", len(failed), sent, strings.Join(failed[:3], "\n"))
	}
}

func withoutControlPlane(r *rig) {
	calls := r.calls()
	r.awaitServing("pair", 2)
	at := r.awaitServing("single", 1)[0]
	elsewhere := func() []string {
		return slices.DeleteFunc(r.containers(), func(c string) bool { return strings.HasPrefix(c, at+" ") })
	}
	before, placed := elsewhere(), fmt.Sprint(r.placements("pair"), r.placements("single"))
	l := r.load(r.others(at), calls[0])
	for _, h := range r.Hosts {
		h.Exec("systemctl", "stop", "bulkhead-scheduler.service", "bulkhead-etcd.service")
	}
	r.waits(l, 400) // longer than any lease
	// A host that reboots meanwhile serves its tenants from its own disk.
	h := r.Host(at)
	h.Exec("systemctl", "disable", "bulkhead-scheduler.service", "bulkhead-etcd.service")
	h.Reboot()
	r.await("single is served by its host", func() bool {
		return strings.Contains(r.get(h.Proxy(), calls[1]), calls[1].Want)
	})
	for _, p := range r.others(at) {
		if got := r.get(p, calls[1]); !strings.Contains(got, calls[1].Want) {
			r.t.Errorf("single through %s: %s", p, got)
		}
	}
	for _, h := range r.Hosts {
		h.Exec("systemctl", "enable", "bulkhead-scheduler.service", "bulkhead-etcd.service")
		h.Exec("systemctl", "start", "--no-block", "bulkhead-scheduler.service", "bulkhead-etcd.service")
	}
	r.await("etcd is back", func() bool {
		_, err := r.Try("status")
		return err == nil
	})
	r.awaitServing("pair", 2)
	r.awaitServing("single", 1)
	r.waits(l, 200)
	r.none(l)
	if now := elsewhere(); !slices.Equal(now, before) {
		r.t.Errorf("containers on the other hosts were %v, and are %v", before, now)
	}
	if now := fmt.Sprint(r.placements("pair"), r.placements("single")); now != placed {
		r.t.Errorf("placements were %s and are %s", placed, now)
	}
}

func deadHost(r *rig) {
	calls := r.calls()
	at := r.awaitServing("single", 1)[0]
	l := r.load(r.others(at), calls[0])
	h := r.Host(at)
	h.Kill()
	r.await("single runs elsewhere", func() bool {
		return slices.ContainsFunc(r.instances("single"), func(i cluster.Instance) bool { return i.Host != at && i.Phase.Serves() })
	})
	for _, p := range r.others(at) {
		if got := r.get(p, calls[1]); !strings.Contains(got, calls[1].Want) {
			r.t.Errorf("single through %s: %s", p, got)
		}
	}
	h.Start()
	r.await("host "+at+" is back", func() bool {
		return slices.ContainsFunc(all[cluster.Host](r, cluster.HostsPrefix), func(h cluster.Host) bool { return h.Name == at })
	})
	r.awaitServing("single", 1)
	r.awaitServing("pair", 2)
	r.waits(l, 40)
	if sent, failed := r.end(l); len(failed) > 3 { // what was on its way to the dead host
		r.t.Errorf("a dead host lost %d of %d requests through the others: %s", len(failed), sent, strings.Join(failed[:3], "\n"))
	}
}
