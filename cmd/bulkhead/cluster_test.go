package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"sigs.k8s.io/yaml"

	"bulkhead/butane"
	"bulkhead/butane/pki"
	"bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// members is an etcd of one member on loopback, run by what is rendered for
// its host. (Several would come from one address here, which is not the one in
// their certificates: etcd refuses that. test/host runs three.)
type members struct {
	t     *testing.T
	dir   string // cluster.yaml and pki
	fleet cluster.Fleet
	stop  func() // ends the member
}

func startMembers(t *testing.T) *members {
	m := &members{t: t, dir: t.TempDir()}
	m.fleet = cluster.DefaultFleet()
	m.fleet.Name, m.fleet.Artifacts = "test", "http://127.0.0.1:1/"
	m.fleet.Listen.HTTPS = []string{}
	ports := freePorts(t, 3)
	m.fleet.Listen.Etcd, m.fleet.Listen.EtcdPeers, m.fleet.Listen.EtcdHTTP = ports[0], ports[1], ports[2]
	m.fleet.Operators = []string{"alice", "bob"}
	for i, role := range [][]string{{"control", "host", "builder"}, {"host"}} {
		m.fleet.Hosts = append(m.fleet.Hosts, cluster.FleetHost{
			Name: fmt.Sprintf("h%d", i+1), Address: fmt.Sprintf("127.0.0.%d", i+11), Roles: role, Labels: map[string]string{"zone": "a"},
		})
	}
	m.write()
	if _, err := pki.Open(m.file("pki")); err != nil {
		t.Fatal(err)
	}
	m.cli("pki", "renew", "--cluster", m.file("cluster.yaml"), "--pki", m.file("pki"))
	m.config(m.fleet.Hosts[0])
	m.start()
	t.Cleanup(func() { m.stop() })
	return m
}

// start starts the member, and returns when it serves.
func (m *members) start() {
	m.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended, ready := make(chan error, 1), make(chan bool, 1)
	config := m.file("h1.etcd.yaml")
	go func() { ended <- etcd.Member(ctx, config, func() { ready <- true }) }()
	m.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			m.t.Error(err)
		}
	})
	select {
	case <-ready:
	case err := <-ended:
		ended <- nil
		m.t.Fatal(err)
	}
}

// freePorts are free on every address of loopback.
func freePorts(t *testing.T, n int) (ports []int) {
	for range n {
		ln, err := net.Listen("tcp", "0.0.0.0:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		ports = append(ports, ln.Addr().(*net.TCPAddr).Port)
	}
	return ports
}

func (m *members) file(name string) string { return filepath.Join(m.dir, name) }

// write writes cluster.yaml.
func (m *members) write() {
	m.t.Helper()
	data, err := yaml.Marshal(m.fleet)
	if err == nil {
		err = os.WriteFile(m.file("cluster.yaml"), data, 0o600)
	}
	if err != nil {
		m.t.Fatal(err)
	}
}

// config writes the etcd.yaml that is rendered for a host, with credentials
// and data where a test may have them. All hosts are on one machine here, so
// none has loopback's own address.
func (m *members) config(h cluster.FleetHost) {
	m.t.Helper()
	text, err := butane.Render(butane.Input{Fleet: m.fleet, Host: h})
	if err != nil {
		m.t.Fatal(err)
	}
	var rendered struct {
		Storage struct {
			Files []struct {
				Path     string
				Contents struct{ Inline string }
			}
		}
	}
	if err := yaml.Unmarshal(text, &rendered); err != nil {
		m.t.Fatal(err)
	}
	config := ""
	for _, f := range rendered.Storage.Files {
		if f.Path == "/etc/bulkhead/etcd.yaml" {
			config = f.Contents.Inline
		}
	}
	host := m.file("pki/hosts/" + h.Name)
	config = strings.NewReplacer(
		"/run/credentials/bulkhead-etcd.service/server.", host+"/etcd-server.",
		"/run/credentials/bulkhead-etcd.service/peer-ca.crt", m.file("pki/etcd-peer-ca.crt"),
		"/run/credentials/bulkhead-etcd.service/peer.", host+"/etcd-peer.",
		"/run/credentials/bulkhead-etcd.service/ca.crt", m.file("pki/etcd-ca.crt"),
		"/var/lib/bulkhead-etcd", m.file("data-"+h.Name),
		fmt.Sprintf(",https://127.0.0.1:%d", m.fleet.Listen.Etcd), "",
		fmt.Sprintf("https://127.0.0.1:%d", m.fleet.Listen.EtcdHTTP), fmt.Sprintf("https://%s:%d", h.Address, m.fleet.Listen.EtcdHTTP),
		"log-level: warn", "log-level: error",
	).Replace(config)
	path := m.file(h.Name + ".etcd.yaml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// cli runs a command line, which must succeed, and returns what it printed.
func (m *members) cli(args ...string) string {
	m.t.Helper()
	var out, problems bytes.Buffer
	if code := run(m.t.Context(), args, stdio{nil, &out, &problems}); code != exitOK {
		m.t.Fatalf("bulkhead %s: exit code %d: %s", strings.Join(args, " "), code, problems.String())
	}
	return out.String()
}

func (m *members) apply() string {
	m.t.Helper()
	return m.cli("cluster", "apply", "-f", m.file("cluster.yaml"), "--endpoints", strings.Join(m.fleet.Endpoints(), ","),
		"--cacert", m.file("pki/etcd-ca.crt"), "--cert", m.file("pki/root.crt"), "--key", m.file("pki/root.key"))
}

// as is a client with a certificate: root, or hosts/h1/agent.
func (m *members) as(certificate string) *clientv3.Client {
	m.t.Helper()
	cli, err := etcd.Open(etcd.Config{
		Endpoints: m.fleet.Endpoints(), CA: m.file("pki/etcd-ca.crt"),
		Cert: m.file("pki/" + certificate + ".crt"), Key: m.file("pki/" + certificate + ".key"),
	})
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { cli.Close() })
	return cli
}

// fill puts a value under every kind of key, of two hosts and two tenants.
func fill(t *testing.T, root *clientv3.Client) {
	t.Helper()
	keys := []string{
		cluster.TenantKey("acme"), cluster.AppliedKey("acme"), cluster.FunctionKey("acme", "f"), cluster.TenantStatusKey("acme"),
		cluster.CordonKey("h9"), cluster.DrainKey("h9"), "/other/key", cluster.RolloutKey("r"), cluster.InventoryKey("h9"),
		cluster.ClaimKey("operator-alice"), cluster.ClaimKey("operator-bob"), cluster.ClaimKey("root"), cluster.AuditHeadKey, cluster.AuditPageKey(1),
		cluster.ModuleKey("lodash"), cluster.ModulePolicyKey, cluster.BuildKey("b"), cluster.SetKey("s"), cluster.BuildersPrefix + "turn/1", cluster.ClaimKey("builder"),
	}
	for _, h := range []string{"h1", "h2", "h11"} {
		keys = append(keys, cluster.PlacementKey(h, "acme.0"), cluster.UnitKey(h, "bulkhead-acme-0.service"), cluster.ManifestKey(h, "acme"),
			cluster.CopyKey(h, "acme", "f"), cluster.RouteKey(h, "acme.0"), cluster.HostKey(h), cluster.LoadKey(h), cluster.InstanceKey(h, "acme.0"),
			cluster.OrderKey(h), cluster.ReportKey(h), cluster.AskKey(h), cluster.CycleKey(h))
	}
	for _, key := range keys {
		if _, err := root.Put(t.Context(), key, "{}"); err != nil {
			t.Fatal(err)
		}
	}
}

// readable are the keys that a client can read one by one.
func readable(t *testing.T, root, cli *clientv3.Client) (keys []string) {
	t.Helper()
	all, err := root.Get(t.Context(), "\x00", clientv3.WithFromKey(), clientv3.WithKeysOnly())
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range all.Kvs {
		_, err := cli.Get(t.Context(), string(kv.Key))
		if denied(t, err) {
			continue
		}
		keys = append(keys, string(kv.Key))
	}
	return keys
}

// writable are the keys that a client can write, or delete.
func writable(t *testing.T, root, cli *clientv3.Client) (keys []string) {
	t.Helper()
	all, err := root.Get(t.Context(), "\x00", clientv3.WithFromKey(), clientv3.WithKeysOnly())
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range all.Kvs {
		key := string(kv.Key)
		_, put := cli.Put(t.Context(), key, "{}")
		_, del := cli.Delete(t.Context(), key)
		_, txn := cli.Txn(t.Context()).Then(clientv3.OpPut(key, "{}")).Commit()
		if no := denied(t, put); no != denied(t, del) || no != denied(t, txn) {
			t.Errorf("%s: put: %v, delete: %v, transaction: %v", key, put, del, txn)
		} else if !no {
			keys = append(keys, key)
		}
	}
	return keys
}

// denied reports whether etcd refused for lack of permission; any other error
// fails the test.
func denied(t *testing.T, err error) bool {
	t.Helper()
	if err != nil && !errors.Is(err, rpctypes.ErrPermissionDenied) {
		t.Fatal(err)
	}
	return err != nil
}

func TestClusterApplyGivesEachUserWhatItNeedsAndNoMore(t *testing.T) {
	m := startMembers(t)
	said := m.apply()
	if !strings.Contains(said, "etcd checks access from now on") || !strings.Contains(said, "users added: agent-h1 agent-h2 builder operator-alice operator-bob proxy-h1 proxy-h2 scheduler") {
		t.Errorf("the first apply said %q", said)
	}
	if said := m.apply(); said != fmt.Sprintf("cluster test is as %s says\n", m.file("cluster.yaml")) {
		t.Errorf("the second apply said %q", said)
	}
	root := m.as("root")
	fill(t, root)
	routes := []string{"/bulkhead/routes/h1/acme.0", "/bulkhead/routes/h11/acme.0", "/bulkhead/routes/h2/acme.0"}
	instances := []string{"/bulkhead/instances/h1/acme.0", "/bulkhead/instances/h11/acme.0", "/bulkhead/instances/h2/acme.0"}
	ownSays := []string{"/bulkhead/asks/h1", "/bulkhead/hosts/h1", "/bulkhead/instances/h1/acme.0", "/bulkhead/loads/h1", "/bulkhead/reports/h1"}
	for _, c := range []struct {
		certificate  string
		reads, write []string
	}{
		{"hosts/h1/agent", []string{
			"/bulkhead/asks/h1", "/bulkhead/copies/h1/acme/f", "/bulkhead/hosts/h1", "/bulkhead/instances/h1/acme.0", "/bulkhead/loads/h1",
			"/bulkhead/manifests/h1/acme", "/bulkhead/orders/h1", "/bulkhead/placements/h1/acme.0", "/bulkhead/reports/h1", "/bulkhead/units/h1/bulkhead-acme-0.service",
		}, ownSays},
		{"hosts/h1/proxy", append(slices.Clone(instances), routes...), nil},
		{"hosts/h1/builder", []string{
			"/bulkhead/applied/acme", "/bulkhead/builders/turn/1", "/bulkhead/builds/b", "/bulkhead/claims/builder", "/bulkhead/functions/acme/f", "/bulkhead/modulepolicy",
			"/bulkhead/modules/lodash", "/bulkhead/sets/s",
		}, []string{"/bulkhead/builders/turn/1", "/bulkhead/builds/b", "/bulkhead/claims/builder", "/bulkhead/functions/acme/f", "/bulkhead/sets/s"}},
	} {
		cli := m.as(c.certificate)
		if got := readable(t, root, cli); !slices.Equal(got, c.reads) {
			t.Errorf("%s reads\n%v, want\n%v", c.certificate, got, c.reads)
		}
		if got := writable(t, root, cli); !slices.Equal(got, c.write) {
			t.Errorf("%s writes\n%v, want\n%v", c.certificate, got, c.write)
		}
	}
	alice := writable(t, root, m.as("operators/alice"))
	for _, key := range []string{cluster.TenantKey("acme"), cluster.FunctionKey("acme", "f"), cluster.CordonKey("h9"), cluster.DrainKey("h9"), cluster.RolloutKey("r"), cluster.ClaimKey("operator-alice"), cluster.ModuleKey("lodash"), cluster.ModulePolicyKey, cluster.BuildKey("b")} {
		if !slices.Contains(alice, key) {
			t.Errorf("an operator may not write %s", key)
		}
	}
	for _, key := range alice {
		if strings.HasPrefix(key, cluster.ClaimsPrefix) && key != cluster.ClaimKey("operator-alice") || strings.HasPrefix(key, cluster.AuditPrefix) ||
			strings.HasPrefix(key, cluster.PlacementsPrefix) || strings.HasPrefix(key, cluster.InventoryPrefix) || strings.HasPrefix(key, cluster.SetsPrefix) {
			t.Errorf("an operator may write %s", key)
		}
	}
	scheduler := m.as("hosts/h1/scheduler")
	for _, key := range writable(t, root, scheduler) {
		for _, others := range []string{cluster.SealingPrefix, cluster.InventoryPrefix, cluster.HostsPrefix, cluster.InstancesPrefix, cluster.LoadsPrefix, cluster.ClaimsPrefix, cluster.ModulesPrefix, cluster.BuildsPrefix, cluster.SetsPrefix, cluster.BuildersPrefix, "/other/"} {
			if strings.HasPrefix(key, others) {
				t.Errorf("a scheduler may write %s", key)
			}
		}
	}
	t.Run("denied", func(t *testing.T) { m.denials(t) })
	t.Run("allowed", func(t *testing.T) { m.allowances(t) })
	t.Run("removed", func(t *testing.T) { m.removal(t) })
}

// denials are what an attacker with a host's certificates would try.
func (m *members) denials(t *testing.T) {
	agent, proxy, root := m.as("hosts/h1/agent"), m.as("hosts/h1/proxy"), m.as("root")
	lease, err := root.Grant(t.Context(), 60)
	if err == nil {
		_, err = root.Put(t.Context(), cluster.HostKey("h2"), "{}", clientv3.WithLease(lease.ID))
	}
	if err != nil {
		t.Fatal(err)
	}
	watch := func(cli *clientv3.Client, key string, opts ...clientv3.OpOption) error {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		r, ok := <-cli.Watch(ctx, key, append(opts, clientv3.WithCreatedNotify())...)
		if !ok {
			return ctx.Err()
		}
		if r.Canceled && strings.HasSuffix(r.Err().Error(), rpctypes.ErrorDesc(rpctypes.ErrPermissionDenied)) {
			return rpctypes.ErrPermissionDenied // a watch's end comes as text
		}
		return r.Err()
	}
	for sentence, try := range map[string]func() error{
		"an agent lists all placements": func() error {
			_, err := agent.Get(t.Context(), cluster.PlacementsPrefix, clientv3.WithPrefix())
			return err
		},
		"an agent lists from its own placements on": func() error {
			_, err := agent.Get(t.Context(), cluster.HostPlacements("h1"), clientv3.WithFromKey())
			return err
		},
		"an agent lists a host whose name begins with its own": func() error {
			_, err := agent.Get(t.Context(), cluster.HostPlacements("h11"), clientv3.WithPrefix())
			return err
		},
		"an agent lists how many tenants there are": func() error {
			_, err := agent.Get(t.Context(), cluster.TenantsPrefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
			return err
		},
		"an agent watches another host's copies":          func() error { return watch(agent, cluster.HostCopies("h2"), clientv3.WithPrefix()) },
		"an agent watches another host's order":           func() error { return watch(agent, cluster.OrderKey("h2")) },
		"an agent watches orders that begin with its own": func() error { return watch(agent, cluster.OrderKey("h1"), clientv3.WithPrefix()) },
		"an agent gives itself an order":                  func() error { _, err := agent.Put(t.Context(), cluster.OrderKey("h1"), "{}"); return err },
		"an agent reads its own cycle":                    func() error { _, err := agent.Get(t.Context(), cluster.CycleKey("h1")); return err },
		"an agent reports for another host":               func() error { _, err := agent.Put(t.Context(), cluster.ReportKey("h2"), "{}"); return err },
		"an agent asks for another host":                  func() error { _, err := agent.Put(t.Context(), cluster.AskKey("h11"), "{}"); return err },
		"an agent watches tenants":                        func() error { return watch(agent, cluster.TenantsPrefix, clientv3.WithPrefix()) },
		"an agent watches routes":                         func() error { return watch(agent, cluster.RoutesPrefix, clientv3.WithPrefix()) },
		"a proxy watches placements":                      func() error { return watch(proxy, cluster.PlacementsPrefix, clientv3.WithPrefix()) },
		"a proxy watches everything":                      func() error { return watch(proxy, cluster.Root, clientv3.WithPrefix()) },
		"an agent compares a key it may not read": func() error {
			_, err := agent.Txn(t.Context()).If(clientv3.Compare(clientv3.Value(cluster.TenantKey("acme")), "=", "x")).
				Then(clientv3.OpPut(cluster.LoadKey("h1"), "{}")).Commit()
			return err
		},
		"an agent reads another key in a transaction that it may write in": func() error {
			_, err := agent.Txn(t.Context()).Then(clientv3.OpPut(cluster.LoadKey("h1"), "{}"), clientv3.OpGet(cluster.TenantKey("acme"))).Commit()
			return err
		},
		"an agent makes a host's name that begins with its own": func() error {
			_, err := agent.Put(t.Context(), cluster.HostKey("h12"), "{}")
			return err
		},
		"an agent revokes another host's lease":     func() error { _, err := agent.Revoke(t.Context(), lease.ID); return err },
		"an agent keeps another host's lease alive": func() error { _, err := agent.KeepAliveOnce(t.Context(), lease.ID); return err },
		"an agent hangs its key on another's lease": func() error {
			_, err := agent.Put(t.Context(), cluster.LoadKey("h1"), "{}", clientv3.WithLease(lease.ID))
			return err
		},
		"an agent compacts history":   func() error { _, err := agent.Compact(t.Context(), 1); return err },
		"an agent takes a snapshot":   func() error { r, err := agent.Snapshot(t.Context()); return firstByte(r, err) },
		"an agent adds a member":      func() error { _, err := agent.MemberAdd(t.Context(), []string{"https://127.0.0.9:1"}); return err },
		"an agent lists users":        func() error { _, err := agent.UserList(t.Context()); return err },
		"an agent disables access":    func() error { _, err := agent.AuthDisable(t.Context()); return err },
		"an agent gives itself root":  func() error { _, err := agent.UserGrantRole(t.Context(), "agent-h1", "root"); return err },
		"a proxy says it is an agent": func() error { _, err := proxy.Put(t.Context(), cluster.HostKey("h1"), "{}"); return err },
		"an agent campaigns": func() error {
			_, err := agent.Put(t.Context(), cluster.ElectionPrefix+"scheduler/1", "h1")
			return err
		},
		"a scheduler changes what secrets are sealed with": func() error {
			_, err := m.as("hosts/h1/scheduler").Put(t.Context(), cluster.SealingKey, "{}")
			return err
		},
	} {
		if err := try(); !errors.Is(err, rpctypes.ErrPermissionDenied) {
			t.Errorf("%s: %v, want permission denied", sentence, err)
		}
	}
	if _, err := (impatient{m.as("hosts/h1/peer")}).Get(t.Context(), cluster.Root); err == nil {
		t.Error("a proxy's certificate for its peers opens etcd")
	}
	if _, err := (impatient{m.as("hosts/h1/etcd-server")}).Get(t.Context(), cluster.Root); err == nil {
		t.Error("a server's certificate opens etcd as a client")
	}
}

// firstByte is what reading a stream fails with.
func firstByte(r interface{ Read([]byte) (int, error) }, err error) error {
	if err == nil {
		_, err = r.Read(make([]byte, 1))
	}
	return rpctypes.Error(err)
}

// impatient is a client that gives up soon.
type impatient struct{ *clientv3.Client }

// Get implements [clientv3.KV], within two seconds.
func (c impatient) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return c.Client.Get(ctx, key, opts...)
}

// allowances are what the daemons do all day.
func (m *members) allowances(t *testing.T) {
	agent, proxy, scheduler := m.as("hosts/h2/agent"), m.as("hosts/h2/proxy"), m.as("hosts/h1/scheduler")
	seen := etcd.Watch(t.Context(), proxy, cluster.RoutesPrefix, cluster.InstancesPrefix)
	own := etcd.Watch(t.Context(), agent, cluster.HostPlacements("h2"), cluster.HostUnits("h2"), cluster.HostManifests("h2"), cluster.HostCopies("h2"))
	orders := etcd.Follow(t.Context(), agent, etcd.Prefix{Name: cluster.OrderKey("h2"), Exact: true})
	<-seen
	<-own
	<-orders
	presence := etcd.NewPresence(agent, 10*time.Second, cluster.HostKey("h2"))
	defer presence.Close()
	presence.Set(cluster.HostKey("h2"), []byte("{}"))
	presence.Set(cluster.LoadKey("h2"), []byte("{}"))
	presence.Set(cluster.InstanceKey("h2", "globex.0"), []byte("{}"))
	if err := presence.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := m.as("root").Put(t.Context(), cluster.OrderKey("h2"), "{}"); err != nil {
		t.Fatal(err)
	}
	await(t, orders, cluster.OrderKey("h2"))
	await(t, seen, cluster.InstanceKey("h2", "globex.0"))

	session, err := concurrency.NewSession(scheduler, concurrency.WithTTL(10))
	if err != nil {
		t.Fatal(err)
	}
	election := concurrency.NewElection(session, cluster.ElectionPrefix+"scheduler")
	if err := election.Campaign(t.Context(), "h1"); err != nil {
		t.Fatal(err)
	}
	fence := &etcd.Fence{Key: election.Key(), Revision: election.Rev()}
	if _, err := etcd.Commit(t.Context(), scheduler, fence, []etcd.Op{
		etcd.Put(cluster.PlacementKey("h2", "globex.0"), []byte("{}")), etcd.Put(cluster.RouteKey("h2", "globex.0"), []byte("{}")),
		etcd.Put(cluster.UnitKey("h2", "u"), nil), etcd.Put(cluster.ManifestKey("h2", "globex"), nil), etcd.Put(cluster.CopyKey("h2", "globex", "f"), nil),
		etcd.Put(cluster.AppliedKey("globex"), nil), etcd.Put(cluster.TenantStatusKey("globex"), nil),
	}); err != nil {
		t.Fatal(err)
	}
	await(t, own, cluster.CopyKey("h2", "globex", "f"))
	await(t, seen, cluster.RouteKey("h2", "globex.0"))
	if err := session.Close(); err != nil {
		t.Fatal(err)
	}
}

// await reads batches until one has the key.
func await(t *testing.T, batches <-chan etcd.Batch, key string) {
	t.Helper()
	for {
		select {
		case b := <-batches:
			if slices.ContainsFunc(b.Events, func(e etcd.Event) bool { return e.Key == key }) {
				return
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%s is not seen", key)
		}
	}
}

// removal takes a host out of the file: its certificates are good, and worth
// nothing.
func (m *members) removal(t *testing.T) {
	agent := m.as("hosts/h2/agent")
	if _, err := agent.Put(t.Context(), cluster.LoadKey("h2"), "{}"); err != nil {
		t.Fatal(err)
	}
	m.fleet.Hosts = m.fleet.Hosts[:1]
	m.write()
	said := m.apply()
	for _, want := range []string{"inventory removed of h2 h9", "users removed: agent-h2 proxy-h2"} {
		if !strings.Contains(said, want) {
			t.Errorf("apply said %q, want %q", said, want)
		}
	}
	for _, certificate := range []string{"hosts/h2/agent", "hosts/h2/proxy"} {
		if _, err := m.as(certificate).Get(t.Context(), cluster.HostKey("h2")); err == nil {
			t.Errorf("%s still reads", certificate)
		}
	}
	if _, err := agent.Put(t.Context(), cluster.LoadKey("h2"), "{}"); err == nil {
		t.Error("an agent that was there before still writes")
	}
	r, err := m.as("root").Get(t.Context(), cluster.InventoryPrefix, clientv3.WithPrefix())
	if err != nil || len(r.Kvs) != 1 || !strings.Contains(string(r.Kvs[0].Value), `"address":"127.0.0.11:8443"`) {
		t.Errorf("inventory: %v %v", r, err)
	}
}

// A member that was restored has the snapshot's keys and users, and goes on at
// revisions that nobody has seen.
func TestEtcdRestore(t *testing.T) {
	m := startMembers(t)
	m.apply()
	root := m.as("root")
	was, err := root.Put(t.Context(), cluster.TenantKey("acme"), "saved")
	if err != nil {
		t.Fatal(err)
	}
	stream, err := root.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	saved, err := io.ReadAll(stream)
	if err == nil {
		err = os.WriteFile(m.file("backup.db"), saved, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := root.Put(t.Context(), cluster.TenantKey("acme"), "lost"); err != nil {
		t.Fatal(err)
	}
	restore := []string{"etcd", "restore", "--config", m.file("h1.etcd.yaml"), m.file("backup.db")}
	var problems bytes.Buffer
	if code := run(t.Context(), restore, stdio{nil, &bytes.Buffer{}, &problems}); code == exitOK || !strings.Contains(problems.String(), "stop it first") {
		t.Errorf("restored while it runs: exit code %d: %s", code, problems.String())
	}
	m.stop()
	said := m.cli(restore...)
	if _, kept, _ := strings.Cut(strings.TrimSpace(said), "is in "); !strings.Contains(kept, "member-before-") {
		t.Errorf("restore said %q", said)
	}
	m.start()
	t.Cleanup(func() { m.stop() })
	got, err := m.as("root").Get(t.Context(), cluster.TenantKey("acme"))
	if err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "saved" || got.Header.Revision <= was.Header.Revision+1000 {
		t.Errorf("restored: %v, %v", got, err)
	}
	if _, err := m.as("hosts/h1/agent").Get(t.Context(), cluster.TenantKey("acme")); !errors.Is(err, rpctypes.ErrPermissionDenied) {
		t.Errorf("an agent reads a tenant after a restore: %v", err)
	}
}

// A member with a client's certificate, or a host's own, is none.
func TestEtcdRefusesConfigurationsThatLetAnybodyIn(t *testing.T) {
	for want, text := range map[string]string{
		"client-transport-security: client-cert-auth is not true": "name: a\ndata-dir: %s\npeer-transport-security: {client-cert-auth: true}\nenable-grpc-gateway: false\n",
		"peer-transport-security: client-cert-auth is not true":   "name: a\ndata-dir: %s\nclient-transport-security: {client-cert-auth: true}\nenable-grpc-gateway: false\n",
		"enable-grpc-gateway is not false":                        "name: a\ndata-dir: %s\nclient-transport-security: {client-cert-auth: true}\npeer-transport-security: {client-cert-auth: true}\nenable-grpc-gateway: true\n",
	} {
		file := filepath.Join(t.TempDir(), "etcd.yaml")
		if err := os.WriteFile(file, fmt.Appendf(nil, text, t.TempDir()), 0o600); err != nil {
			t.Fatal(err)
		}
		var problems bytes.Buffer
		if code := run(t.Context(), []string{"etcd", "--config", file}, stdio{nil, &bytes.Buffer{}, &problems}); code == exitOK || !strings.Contains(problems.String(), want) {
			t.Errorf("exit code %d: %s, want %q", code, problems.String(), want)
		}
	}
}
