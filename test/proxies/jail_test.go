// Package proxies runs proxies as hosts do: the real binary from its rendered
// units, in the jails that the agent's supervisor makes, with the certificates
// of a cluster and a real etcd.
package proxies

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/agent/supervisor"
	"bulkhead/butane/pki"
	"bulkhead/cluster"
	"bulkhead/internal/etcd"
	"bulkhead/internal/etcd/etcdtest"
	"bulkhead/internal/frames"
	"bulkhead/internal/frames/framestest"
	"bulkhead/internal/tally"
	"bulkhead/units"
)

func TestMain(m *testing.M) {
	supervisor.MaybeJail()
	os.Exit(m.Run())
}

// proxyUser is whom the jails' processes run as.
const proxyUser = 400000

// host is one of a cluster's, with a supervisor that runs its proxy alone.
type host struct {
	name                string
	paths               cluster.Paths
	http, https, peer   string // addresses
	supervisor          *supervisor.Supervisor
	certificates, state string
}

type rig struct {
	t       *testing.T
	dir     string
	binary  string
	etcd    *clientv3.Client
	address string // etcd's
	pki     *pki.Directory
	fleet   cluster.Fleet
}

func newRig(t *testing.T, hosts ...string) *rig {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	dir, err := os.MkdirTemp("", "bh") // t.TempDir's paths are too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, dir: dir, binary: filepath.Join(dir, "bulkhead")}
	build := exec.Command("go", "build", "-o", r.binary, "bulkhead/cmd/bulkhead")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("cannot build bulkhead: %v\n%s", err, out)
	}
	server, err := etcd.Embed(t.TempDir(), etcdtest.AnyPort, etcdtest.AnyPort)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	r.address = server.Endpoints()[0]
	if r.etcd, err = etcd.Open(etcd.Config{Endpoints: server.Endpoints()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.etcd.Close() })
	for _, name := range hosts {
		r.fleet.Hosts = append(r.fleet.Hosts, cluster.FleetHost{Name: name, Address: "127.0.0.1", Roles: []string{cluster.RoleHost}})
	}
	if r.pki, err = pki.Open(filepath.Join(dir, "pki")); err != nil {
		t.Fatal(err)
	}
	if _, err := r.pki.Ensure(r.fleet); err != nil {
		t.Fatal(err)
	}
	return r
}

// start runs a host's proxy.
func (r *rig) start(name string) *host {
	t := r.t
	t.Helper()
	base := filepath.Join(r.dir, name)
	h := &host{
		name: name, paths: cluster.Paths{Run: base + "/run", State: base + "/state"}, certificates: base + "/certificates",
		http: freeAddress(t), https: freeAddress(t), peer: freeAddress(t),
	}
	info := cluster.Host{Name: name, ProxyGID: proxyUser, Paths: h.paths}
	h.state = units.ProxyState(h.paths)
	for _, dir := range []string{units.ProxyRoot(h.paths), h.state, h.paths.Run + "/instances", h.certificates} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(h.state, proxyUser, proxyUser); err != nil {
		t.Fatal(err)
	}
	r.certify(h)
	at := func(file string) string { return filepath.Join(h.certificates, file) }
	us, err := units.RenderProxy(info, units.Proxy{
		Binary: r.binary, UID: proxyUser, GID: proxyUser, Network: true, Files: []string{h.certificates},
		Listen: []string{h.http}, ListenTLS: []string{h.https}, ListenPeer: []string{h.peer},
		Args: []string{
			"proxy", "--host", name, "--state", h.state, "--endpoints", r.address, "--domain", "example.org",
			// A proxy's certificate will do for clients that know its authority.
			"--tls-cert", at("peer.crt"), "--tls-key", at("peer.key"),
			"--peer-ca", at("peer-ca.crt"), "--peer-cert", at("peer.crt"), "--peer-key", at("peer.key"),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if h.supervisor, err = supervisor.Open(h.paths.Run, h.paths.State, slog.New(slog.NewTextHandler(t.Output(), nil))); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, log := range logs(h) {
				text, _ := os.ReadFile(log)
				t.Logf("%s:\n%s", log, text)
			}
		}
		h.supervisor.Remove(context.Background(), units.ProxyUnits...)
		h.supervisor.Close()
	})
	if err := h.supervisor.Write(t.Context(), us...); err != nil {
		t.Fatal(err)
	}
	if err := h.supervisor.Start(t.Context(), units.ProxyService); err != nil {
		t.Fatal(err)
	}
	return h
}

func logs(h *host) []string {
	files, _ := filepath.Glob(h.paths.State + "/logs/*.log")
	return files
}

// certify gives a host what the cluster's operator has for it.
func (r *rig) certify(h *host) {
	r.t.Helper()
	fh, _ := r.fleet.Host(h.name)
	files, err := r.pki.Host(fh)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range files {
		path := filepath.Join(h.certificates, f.Name)
		if err := os.WriteFile(path, f.Data, 0o400); err != nil {
			r.t.Fatal(err)
		}
		if err := os.Chown(path, proxyUser, proxyUser); err != nil {
			r.t.Fatal(err)
		}
	}
}

// place puts an instance on a host, as scheduler and agent do.
func (r *rig) place(h *host, instance string, serve func(*framestest.Exchange)) {
	t := r.t
	t.Helper()
	tenant, _, err := cluster.ParseInstance(instance)
	if err != nil {
		t.Fatal(err)
	}
	dir := h.paths.InstanceDir(instance)
	if err := os.MkdirAll(string(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	framestest.ListenAt(t, dir.Socket(), serve)
	if err := os.Chown(dir.Socket(), 0, proxyUser); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir.Socket(), 0o660); err != nil {
		t.Fatal(err)
	}
	for key, v := range map[string]any{
		cluster.RouteKey(h.name, instance):    cluster.Route{Tenant: tenant, Instance: instance, Host: h.name, Address: h.peer},
		cluster.InstanceKey(h.name, instance): cluster.Instance{Tenant: tenant, Instance: instance, Host: h.name, Phase: cluster.Ready, Endpoint: dir.Socket()},
	} {
		value, err := json.Marshal(v)
		if err == nil {
			_, err = r.etcd.Put(t.Context(), key, string(value))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// client trusts the proxies' authority, and finds every name at an address.
func (r *rig) client(h *host, address string) *http.Client {
	pem, err := os.ReadFile(filepath.Join(h.certificates, "peer-ca.crt"))
	if err != nil {
		r.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	tr := &http.Transport{
		ForceAttemptHTTP2: true, TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: cluster.PeerName(h.name)},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}
	r.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func post(t *testing.T, c *http.Client, url, body string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(got)
}

func TestJailedProxiesServeEachOthersTenants(t *testing.T) {
	r := newRig(t, "h1", "h2")
	h1, h2 := r.start("h1"), r.start("h2")
	echo := func(x *framestest.Exchange) {
		x.Answer(200, map[string]string{"x-scheme": string(x.Request.Headers.Get("x-forwarded-proto"))}, "", false)
		io.Copy(x, x.Body)
		x.End()
	}
	r.place(h2, "acme.0", echo)
	r.place(h1, "globex.0", echo)
	body := strings.Repeat("0123456789abcdef", 100_000)
	for _, h := range []*host{h1, h2} {
		for _, tenant := range []string{"acme", "globex"} {
			for address, url := range map[string]string{h.http: "http://any/" + tenant + "/x", h.https: "https://" + tenant + ".example.org/x"} {
				var resp *http.Response
				var got string
				// Routes reach each proxy by itself.
				for resp == nil || resp.StatusCode == 404 {
					resp, got = post(t, r.client(h, address), url, body)
				}
				scheme, _, _ := strings.Cut(url, ":")
				if resp.StatusCode != 200 || got != body || resp.Header.Get("X-Scheme") != scheme || resp.ProtoMajor != map[string]int{"http": 1, "https": 2}[scheme] {
					t.Errorf("%s by %s: got %d over HTTP/%d, %d bytes of %d, scheme %s\n%.200s", url, h.name, resp.StatusCode, resp.ProtoMajor, len(got), len(body), resp.Header.Get("X-Scheme"), got)
				}
			}
		}
	}
}

func TestProxyThatIsRestartedLosesNoRequestOfOtherHosts(t *testing.T) {
	r := newRig(t, "h1", "h2")
	h1, h2 := r.start("h1"), r.start("h2")
	r.place(h2, "acme.0", func(x *framestest.Exchange) {
		io.Copy(io.Discard, x.Body)
		x.Answer(200, nil, "ok", true)
	})
	c := r.client(h1, h1.http)
	for status := 404; status == 404; {
		resp, _ := post(t, c, "http://any/acme/x", "body")
		status = resp.StatusCode
	}
	stop, done := make(chan struct{}), make(chan error, 4)
	for range cap(done) {
		go func() {
			for {
				select {
				case <-stop:
					done <- nil
					return
				default:
				}
				resp, err := c.Post("http://any/acme/x", "text/plain", strings.NewReader("body"))
				if err != nil {
					done <- err
					return
				}
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || resp.StatusCode != 200 {
					done <- fmt.Errorf("got %d %s %v", resp.StatusCode, got, err)
					return
				}
			}
		}()
	}
	for range 3 {
		if err := h2.supervisor.Restart(t.Context(), units.ProxyService); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	for range cap(done) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	states, err := h2.supervisor.States(t.Context(), "bulkhead-proxy")
	if err != nil || !slices.ContainsFunc(states, func(s units.State) bool { return s.Name == units.ProxyService && s.Up() }) {
		t.Errorf("units are %v %v", states, err)
	}
}

func TestWhatAJailedProxyFailedIsCountedBeyondItsEnd(t *testing.T) {
	r := newRig(t, "h1")
	h := r.start("h1")
	r.place(h, "acme.0", func(x *framestest.Exchange) { x.Reset(frames.CodeGone, "its runner is ending") })
	c, want := r.client(h, h.http), int64(0)
	for range 2 {
		for status := 404; status == 404; {
			resp, got := post(t, c, "http://any/acme/x", "body")
			if status = resp.StatusCode; status != 404 && (status != 503 || !strings.Contains(got, "instance_gone")) {
				t.Fatalf("got %d %s", status, got)
			}
		}
		want++
		if err := h.supervisor.Restart(t.Context(), units.ProxyService); err != nil {
			t.Fatal(err)
		}
		// It is root that reads, outside of the jail.
		if n, err := tally.Read(filepath.Join(h.state, "failures")); n != want || err != nil {
			t.Errorf("%d are counted (%v), want %d", n, err, want)
		}
	}
}
