package fleet

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
	"bulkhead/test/host"
	"bulkhead/test/load"
)

// rig is the cluster under test.
type rig struct {
	*host.Fleet
	t       *testing.T
	etcd    *clientv3.Client
	proxies []string
}

func TestFleet(t *testing.T) {
	c := host.Cluster(t, 3)
	r := &rig{Fleet: c, t: t, etcd: c.Client()}
	for _, h := range c.Hosts {
		r.proxies = append(r.proxies, h.Proxy())
	}
	for _, step := range []struct {
		name string
		do   func(*rig)
	}{
		{"two replicas serve from two hosts", twoReplicas},
		{"every proxy serves every tenant", everyProxy},
		{"a revoked token is refused by every host", revoked},
		{"secrets are sealed for another key, and no request is lost", resealed},
		{"code reaches nothing of the cluster", reachesNothing},
		{"a tenant that is busy gets more instances", busyTenant},
		{"certificates let in to what is theirs", denials},
		{"a drained host loses nothing", drained},
		{"every host is rebooted in turn, and nothing is lost", rebooted},
		{"a part that is killed is missed by nobody", killed},
		{"a host whose Docker restarts, and one with a full disk", dockerAndDisk},
		{"a host cut off from the rest", partitioned},
		{"without a control plane all goes on", withoutControlPlane},
		{"a host that dies is replaced, and taken back", deadHost},
	} {
		ok := t.Run(step.name, func(t *testing.T) {
			r.t = t
			step.do(r)
		})
		if r.t = t; !ok {
			out, _ := c.Try("status")
			t.Fatalf("stopping after %q\n%s", step.name, out)
		}
	}
}

// put registers a tenant as an operator does.
func (r *rig) put(tenant, more string) {
	r.t.Helper()
	r.Etcdctl("put", cluster.TenantKey(tenant), fmt.Sprintf(`{"keys": [{"kid": "1", "alg": "HS256", "secret": "0123456789-%s-0123456789abcdef"}]%s}`, tenant, more))
}

// deploy deploys a function.
func (r *rig) deploy(tenant, name, source string) {
	r.t.Helper()
	file := filepath.Join(r.t.TempDir(), name+".js")
	if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
		r.t.Fatal(err)
	}
	r.Bulkhead("function", "deploy", tenant, name, file)
}

func (r *rig) token(tenant string) string {
	r.t.Helper()
	return strings.TrimSpace(r.Bulkhead("token", tenant, "--expires", "2h"))
}

// hello gives a tenant a function that says its name.
func (r *rig) hello(tenant string) load.Call {
	r.t.Helper()
	r.deploy(tenant, "hello", fmt.Sprintf(`module.exports = (cb) => cb(null, 'hello from %s');`, tenant))
	return load.Call{Path: "/" + tenant + "/hello", Token: r.token(tenant), Want: "hello from " + tenant}
}

// get calls a function through a proxy.
func (r *rig) get(proxy string, c load.Call, curl ...string) string {
	r.t.Helper()
	args := append([]string{"-sS", "--max-time", "40", "-H", "Authorization: Bearer " + c.Token}, curl...)
	out, err := exec.Command("curl", append(args, proxy+c.Path)...).CombinedOutput()
	if err != nil {
		r.t.Fatalf("curl %s%s: %v %s", proxy, c.Path, err, out)
	}
	return string(out)
}

// instances are a tenant's, as their hosts report them.
func (r *rig) instances(tenant string) []cluster.Instance {
	return slices.DeleteFunc(all[cluster.Instance](r, cluster.InstancesPrefix), func(i cluster.Instance) bool { return i.Tenant != tenant })
}

// placements are where a tenant's instances belong: host/instance.
func (r *rig) placements(tenant string) (at []string) {
	for _, route := range all[cluster.Route](r, cluster.RoutesPrefix) {
		if route.Tenant == tenant {
			at = append(at, route.Host+"/"+route.Instance)
		}
	}
	slices.Sort(at)
	return at
}

func all[T any](r *rig, prefix string) (values []T) {
	r.t.Helper()
	b, err := etcd.List(r.t.Context(), r.etcd, prefix)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, e := range b.Events {
		var v T
		if err := json.Unmarshal(e.Value, &v); err != nil {
			r.t.Fatalf("%s: %v", e.Key, err)
		}
		values = append(values, v)
	}
	return values
}

// await looks again until it is so. What is waited for happens on other
// machines, which tell nobody; a look costs a round trip.
func (r *rig) await(what string, so func() bool) {
	r.t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for tick := time.NewTicker(100 * time.Millisecond); !so(); {
		select {
		case <-tick.C:
		case <-r.t.Context().Done():
			r.t.Fatal("the test's time is over")
		}
		if time.Now().After(deadline) {
			out, _ := r.Try("status")
			r.t.Fatalf("not within two minutes: %s\n%s", what, out)
		}
	}
}

// awaitServing waits until so many of a tenant's instances serve, and returns
// where they are, in order.
func (r *rig) awaitServing(tenant string, n int) (hosts []string) {
	r.t.Helper()
	r.await(fmt.Sprintf("%d instances of %s serve", n, tenant), func() bool {
		hosts = nil
		for _, i := range r.instances(tenant) {
			if i.Phase.Serves() {
				hosts = append(hosts, i.Host)
			}
		}
		return len(hosts) == n && len(r.placements(tenant)) == n
	})
	slices.Sort(hosts)
	return hosts
}

// containers are the running containers of the two tenants, as Docker knows
// them: host, instance and ID.
func (r *rig) containers() (all []string) {
	r.t.Helper()
	for _, i := range append(r.instances("pair"), r.instances("single")...) {
		id := strings.TrimSpace(r.Host(i.Host).Exec("docker", "ps", "--no-trunc", "--quiet", "--filter", "id="+i.Container))
		all = append(all, i.Host+" "+i.Instance+" "+id)
	}
	slices.Sort(all)
	return all
}

// load calls functions through proxies.
func (r *rig) load(proxies []string, calls ...load.Call) *load.Load {
	l := load.Start(r.t.Context(), load.Options{Proxies: proxies, Calls: calls, Every: 25 * time.Millisecond})
	r.t.Cleanup(func() { l.Stop() })
	return l
}

// waits waits until so many requests more have been sent.
func (r *rig) waits(l *load.Load, requests int) {
	r.t.Helper()
	if err := l.Await(r.t.Context(), requests); err != nil {
		r.t.Fatal(err)
	}
}

// end stops a load, and returns how many requests were sent and what failed.
func (r *rig) end(l *load.Load) (sent int, failed []string) {
	r.t.Helper()
	result := l.Stop()
	r.t.Log(result)
	if result.Sent == 0 {
		r.t.Fatal("the load sent nothing")
	}
	for _, f := range result.Failed {
		failed = append(failed, f.String())
	}
	return result.Sent, failed
}

// none fails the test unless every request was answered.
func (r *rig) none(l *load.Load) {
	r.t.Helper()
	if sent, failed := r.end(l); len(failed) > 0 {
		r.t.Errorf("%d of %d requests failed, the first:\n%s", len(failed), sent, strings.Join(failed[:min(3, len(failed))], "\n"))
	}
}
