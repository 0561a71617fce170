package fleet

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/cluster"
	"bulkhead/test/load"
)

func twoReplicas(r *rig) {
	began := time.Now()
	r.put("pair", `, "replicas": {"min": 2}, "placement": {"spread": "zone"}`)
	hosts := r.awaitServing("pair", 2)
	r.t.Logf("from put to two ready instances: %s", time.Since(began).Round(time.Millisecond))
	if len(hosts) != 2 || hosts[0] == hosts[1] {
		r.t.Fatalf("the two instances are on %v", hosts)
	}
	c := r.hello("pair")
	for _, p := range r.proxies {
		if got := r.get(p, c); !strings.Contains(got, c.Want) {
			r.t.Errorf("%s answers %s", p, got)
		}
	}
}

const echo = `module.exports = (ctx, req, res) => {
  if (req.headers.upgrade) {
    const s = req.socket;
    s.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n');
    s.on('data', (d) => s.write(d));
    s.on('end', () => s.end());
    return;
  }
  res.writeHead(200, { 'content-type': 'application/octet-stream', 'x-request': req.headers['x-request'] || '', trailer: 'x-end' });
  req.on('data', (d) => res.write(d));
  req.on('end', () => { res.addTrailers({ 'x-end': 'yes' }); res.end(); });
};`

// everyProxy calls the only instance of a tenant through every host.
func everyProxy(r *rig) {
	r.put("single", `, "replicas": {"min": 1, "max": 1}, "limits": {"body": "16MiB"}`)
	at := r.awaitServing("single", 1)[0]
	r.deploy("single", "echo", echo)
	c := load.Call{Path: "/single/echo", Token: r.token("single")}
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<19) // 8 MiB
	for _, h := range r.Hosts {
		where := fmt.Sprintf("through %s to %s", h.Node, at)
		r.streams(h.Proxy(), c, big, where)
		r.upgrades(h.Address(), c, where)
		if got := r.get(h.Proxy(), load.Call{Path: "/single/echo", Token: c.Token + "x"}); !strings.Contains(got, `"code":403`) {
			r.t.Errorf("%s, with a token that does not verify: %s", where, got)
		}
		if got := r.get(h.Proxy(), load.Call{Path: "/nobody/echo"}); !strings.Contains(got, "tenant_unknown") {
			r.t.Errorf("a tenant that is not there, through %s: %s", h.Node, got)
		}
	}
}

func (r *rig) streams(proxy string, c load.Call, body []byte, where string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), "POST", proxy+c.Path, io.MultiReader(bytes.NewReader(body)))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+c.Token)
	req.Header.Set("X-Request", "mine")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatalf("%s: %v", where, err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 || !bytes.Equal(got, body) || resp.Header.Get("X-Request") != "mine" || resp.Trailer.Get("X-End") != "yes" {
		r.t.Errorf("%s: %d, %d of %d bytes, headers %v, trailers %v, error %v", where, resp.StatusCode, len(got), len(body), resp.Header, resp.Trailer, err)
	}
}

func (r *rig) upgrades(address string, c load.Call, where string) {
	r.t.Helper()
	conn, err := net.Dial("tcp", address+":8080")
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n", c.Path, c.Token)
	in := bufio.NewReader(conn)
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != 101 {
		r.t.Errorf("%s, an upgrade: %+v, %v", where, resp, err)
		return
	}
	for _, word := range []string{"once\n", "twice\n"} {
		io.WriteString(conn, word)
		if got, err := in.ReadString('\n'); got != word {
			r.t.Errorf("%s, upgraded: %q came back as %q, %v", where, word, got, err)
		}
	}
}

// denials tries what a host's certificates may not do, on the real cluster.
func denials(r *rig) {
	single := r.awaitServing("single", 1)[0]
	other := r.Hosts[slices.IndexFunc(r.Hosts, func(h *hostNode) bool { return h.Node != single })].Node
	agent, proxy := r.As(other, "agent"), r.As(other, "proxy")
	prefixes := func(host string) []string {
		return []string{cluster.HostPlacements(host), cluster.HostUnits(host), cluster.HostManifests(host), cluster.HostCopies(host)}
	}
	type try struct {
		who    string
		client *clientv3.Client
		key    string
		write  bool
	}
	var denied, allowed []try
	for _, p := range prefixes(single) {
		denied = append(denied, try{"agent", agent, p, false}, try{"proxy", proxy, p, false}, try{"agent", agent, p + "x", true})
	}
	for _, p := range prefixes(other) {
		allowed = append(allowed, try{"agent", agent, p, false})
		denied = append(denied, try{"agent", agent, p + "x", true}, try{"proxy", proxy, p, false})
	}
	for _, p := range []string{cluster.TenantsPrefix, cluster.AppliedPrefix, cluster.FunctionsPrefix, cluster.InventoryPrefix, cluster.Root} {
		denied = append(denied, try{"agent", agent, p, false}, try{"proxy", proxy, p, false})
	}
	for _, key := range []string{cluster.RouteKey(other, "single.0"), cluster.HostKey(single), cluster.InstanceKey(single, "single.0"), cluster.CordonKey(single), cluster.ElectionPrefix + "scheduler/x", cluster.TenantKey("mine")} {
		denied = append(denied, try{"agent", agent, key, true}, try{"proxy", proxy, key, true})
	}
	allowed = append(allowed, try{"proxy", proxy, cluster.RoutesPrefix, false}, try{"proxy", proxy, cluster.InstancesPrefix, false})
	for _, d := range denied {
		if err := r.tries(d.client, d.key, d.write); !errors.Is(err, rpctypes.ErrPermissionDenied) {
			r.t.Errorf("%s of %s, %s (write: %v): %v, want it denied", d.who, other, d.key, d.write, err)
		}
	}
	for _, a := range allowed {
		if err := r.tries(a.client, a.key, a.write); err != nil {
			r.t.Errorf("%s of %s, %s (write: %v): %v, want it allowed", a.who, other, a.key, a.write, err)
		}
	}
	r.t.Logf("%d denied, %d allowed", len(denied), len(allowed))
}

func (r *rig) tries(c *clientv3.Client, key string, write bool) error {
	if write {
		_, err := c.Put(r.t.Context(), key, "mine")
		return err
	}
	_, err := c.Get(r.t.Context(), key, clientv3.WithPrefix())
	return err
}

// busyTenant has more requests in flight than one instance is to have.
func busyTenant(r *rig) {
	r.put("busy", `, "replicas": {"min": 1, "max": 3, "concurrency": 4}`)
	r.awaitServing("busy", 1)
	r.deploy("busy", "slow", `module.exports = (cb) => setTimeout(() => cb(null, 'at last'), 1000);`)
	began := time.Now()
	l := load.Start(r.t.Context(), load.Options{Proxies: r.proxies, Calls: []load.Call{{Path: "/busy/slow", Token: r.token("busy"), Want: "at last"}}, Every: 50 * time.Millisecond})
	defer l.Stop()
	hosts := slices.Compact(r.awaitServing("busy", 3))
	r.t.Logf("20 requests in flight, 4 an instance: three instances after %s, on %v", time.Since(began).Round(100*time.Millisecond), hosts)
	if len(hosts) < 2 {
		r.t.Errorf("all three are on %v", hosts)
	}
	r.none(l)
	r.Bulkhead("tenant", "rm", "busy", "--purge")
}

// reachesNothing has code knock at what a cluster is made of: each is refused,
// and soon. That what is allowed passes is shown where a test is the Internet
// (agent/egress, test/e2e).
func reachesNothing(r *rig) {
	r.put("knocker", "")
	r.deploy("knocker", "knock", `const net = require('net');
module.exports = (ctx, cb) => {
  const s = net.connect({ host: ctx.query.host, port: Number(ctx.query.port), timeout: 5000 }, () => { s.destroy(); cb(null, 'connected'); });
  s.on('error', (err) => cb(null, err.code));
  s.on('timeout', () => { s.destroy(); cb(null, 'silence'); });
};`)
	token := r.token("knocker")
	for _, h := range r.Hosts {
		for _, port := range []string{"22", "2379", "8080", "8443"} {
			call := load.Call{Path: fmt.Sprintf("/knocker/knock?host=%s&port=%s", h.Address(), port), Token: token}
			if got := r.get(r.proxies[0], call); got != `"EHOSTUNREACH"` {
				r.t.Errorf("port %s of host %s: %s", port, h.Node, got)
			}
		}
	}
	for _, address := range []string{"169.254.169.254", "172.17.0.1", "10.0.0.1"} {
		call := load.Call{Path: "/knocker/knock?port=80&host=" + address, Token: token}
		if got := r.get(r.proxies[0], call); got != `"EHOSTUNREACH"` {
			r.t.Errorf("%s: %s", address, got)
		}
	}
	if out := r.Bulkhead("tenant", "show", "knocker"); strings.Contains(out, "No network") {
		r.t.Errorf("its cell has no network, so that is no wonder:\n%s", out)
	}
	r.Etcdctl("del", "--prefix", cluster.FunctionsPrefix+"knocker/")
	r.Etcdctl("del", cluster.TenantKey("knocker"))
}
