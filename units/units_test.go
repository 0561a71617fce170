package units

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bulkhead/cluster"
)

var update = flag.Bool("update", false, "write the golden files anew")

var testHost = cluster.Host{
	Name:     "h1",
	ProxyGID: 400000,
	Paths:    cluster.Paths{Run: "/run/bulkhead", State: "/var/lib/bulkhead", Runner: "/opt/bulkhead/bulkhead-runner"},
}

var testProxy = Proxy{
	Binary: "/opt/bulkhead/bulkhead",
	Args:   []string{"proxy", "--etcd=127.0.0.1:2379", "--state=/var/lib/bulkhead/proxy"},
	Listen: []string{"127.0.0.1:8080", "[::1]:8080"}, ListenTLS: []string{"127.0.0.1:8443"}, ListenPeer: []string{"192.0.2.1:7600"},
	Files: []string{"/etc/resolv.conf", "/etc/ssl/certs"},
	UID:   400000, GID: 400000,
}

func testPlacement() cluster.Placement {
	return cluster.Placement{
		Tenant: "acme-west", Instance: "acme-west.2", Image: "sha256:0123",
		Resources: cluster.Resources{Memory: 128 << 20, CPU: 0.5, Pids: 64, Tmp: 64 << 20},
	}
}

// renderAll returns every unit this package can render.
func renderAll(t *testing.T) []Unit {
	t.Helper()
	us, err := Render(testHost, testPlacement())
	if err != nil {
		t.Fatal(err)
	}
	ps, err := RenderProxy(testHost, testProxy)
	if err != nil {
		t.Fatal(err)
	}
	beside, err := RenderBeside(testHost, testProxy)
	if err != nil {
		t.Fatal(err)
	}
	return append(append(us, ps...), beside)
}

func TestRenderedUnitsMatchGoldenFiles(t *testing.T) {
	for _, u := range renderAll(t) {
		golden := filepath.Join("testdata", u.Name)
		if *update {
			if err := os.WriteFile(golden, []byte(u.Text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if u.Text != string(want) {
			t.Errorf("%s differs from %s (go test ./units -update accepts it):\n%s", u.Name, golden, u.Text)
		}
	}
}

func TestRenderOrdersOuterUnitsFirst(t *testing.T) {
	us, err := Render(testHost, testPlacement())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, u := range us {
		names = append(names, u.Name)
	}
	want := "bulkhead-acme_west.slice bulkhead-acme_west-2.slice bulkhead-acme_west-2.socket bulkhead-acme_west-2.service"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestRenderRefuses(t *testing.T) {
	for _, c := range []struct {
		sentence string
		change   func(*cluster.Host, *cluster.Placement)
		want     string
	}{
		{"an instance without a number", func(_ *cluster.Host, p *cluster.Placement) { p.Instance = "acme-west" }, "instance name"},
		{"an instance of another tenant", func(_ *cluster.Host, p *cluster.Placement) { p.Instance = "other.0" }, "not one of tenant"},
		{"a relative path", func(h *cluster.Host, _ *cluster.Placement) { h.Paths.Run = "run" }, "absolute"},
		{"a path with a space", func(h *cluster.Host, _ *cluster.Placement) { h.Paths.Runner = "/opt/my runner" }, "unquoted"},
		{"a path with a line break, which would add directives", func(h *cluster.Host, _ *cluster.Placement) { h.Paths.Run = "/run\nUser=root" }, "unquoted"},
		{"a path with a specifier", func(h *cluster.Host, _ *cluster.Placement) { h.Paths.Run = "/run/%i" }, "unquoted"},
	} {
		h, p := testHost, testPlacement()
		c.change(&h, &p)
		if _, err := Render(h, p); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got error %v, want one with %q", c.sentence, err, c.want)
		}
	}
}

func TestRenderProxyRefuses(t *testing.T) {
	for _, c := range []struct {
		sentence string
		change   func(*Proxy)
		want     string
	}{
		{"root as its user", func(p *Proxy) { p.UID = 0 }, "other than root"},
		{"an argument that a shell or systemd would split", func(p *Proxy) { p.Args = []string{"proxy", "a b"} }, "unquoted"},
		{"nothing to listen on", func(p *Proxy) { p.Listen, p.ListenTLS, p.ListenPeer = nil, nil, nil }, "listens on nothing"},
		{"an address that adds directives", func(p *Proxy) { p.ListenPeer = []string{"1:1\nUser=root"} }, "unquoted"},
		{"a relative binary", func(p *Proxy) { p.Binary = "bulkhead" }, "absolute"},
	} {
		p := testProxy
		c.change(&p)
		if _, err := RenderProxy(testHost, p); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got error %v, want one with %q", c.sentence, err, c.want)
		}
	}
}
