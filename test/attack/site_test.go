package attack

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/cluster"
	"bulkhead/images/node"
	"bulkhead/internal/etcd/etcdtest"
	"bulkhead/internal/frames"
	"bulkhead/internal/frames/framestest"
	"bulkhead/proxy"
	"bulkhead/runner"
	"bulkhead/test/family"
)

// echo tells what reached the function, so that a test sees what was let in.
const echo = `module.exports = (ctx, req, res) => {
	const parts = [];
	req.on('data', (d) => parts.push(d));
	req.on('end', () => res.end(JSON.stringify({method: req.method, url: req.url, host: req.headers.host, body: Buffer.concat(parts).toString('latin1'), headers: req.rawHeaders, trailers: req.rawTrailers})));
};`

// split is tenant code that tries to say more than one answer.
const split = `module.exports = (ctx, req, res) => {
	const evil = 'x\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nX-Smuggled: 1\r\n\r\n';
	switch (ctx.query.how) {
	case 'value': res.setHeader('X-A', evil); break;
	case 'name': res.setHeader('X-A: 1\r\nX-Smuggled', '1'); break;
	case 'reason': res.writeHead(200, evil); break;
	case 'latin': res.setHeader('X-A', 'x\u010d\u010aX-Smuggled: 1'); break;
	case 'socket': req.socket.write('HTTP/1.1 200 OK\r\nX-Smuggled: 1\r\n\r\n'); break;
	case 'longer': res.setHeader('Content-Length', 3); res.end('abcHTTP/1.1 200 OK\r\nX-Smuggled: 1\r\n\r\n'); return;
	case 'shorter': res.setHeader('Content-Length', 100); break;
	}
	res.end('ok');
};`

const neighbourSays = "the neighbour's answer"

// site is a host's proxy before three tenants: acme, who is attacked, globex,
// his neighbour, both in Node; and evil, whose runner says what it likes.
type site struct {
	t           *testing.T
	http, https string // addresses
	keys        ring
	acme        *served
	smuggled    *watchLog
	lure        net.Listener // the attacker's server
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, keys: newRing(t), smuggled: &watchLog{}, lure: listen(t)}
	t.Cleanup(func() { s.lure.Close() })
	_, etcd := etcdtest.New(t)
	s.acme = serve(t, "acme", s.keys.acme(), map[string]string{"echo": echo, "split": split})
	globex := serve(t, "globex", []cluster.Key{{KID: "glx", Alg: "HS256", Secret: globexSecret}}, map[string]string{
		"hi": fmt.Sprintf(`module.exports = (ctx, req, res) => res.end(%q);`, neighbourSays),
	})
	place(t, etcd, "acme", s.acme.socket)
	place(t, etcd, "globex", globex.socket)
	place(t, etcd, "evil", framestest.Listen(t, answerEvil))
	s.startProxy(etcd)
	return s
}

// place makes the tenant's instance known, as scheduler and agent do.
func place(t *testing.T, etcd *clientv3.Client, tenant, socket string) {
	t.Helper()
	instance := tenant + ".0"
	for key, v := range map[string]any{
		cluster.RouteKey("h1", instance):    cluster.Route{Tenant: tenant, Instance: instance, Host: "h1", Address: "127.0.0.1:1"},
		cluster.InstanceKey("h1", instance): cluster.Instance{Tenant: tenant, Instance: instance, Host: "h1", Phase: cluster.Ready, Endpoint: socket},
	} {
		value, err := json.Marshal(v)
		if err == nil {
			_, err = etcd.Put(t.Context(), key, string(value))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func (s *site) startProxy(etcd *clientv3.Client) {
	t, log := s.t, slog.New(slog.DiscardHandler)
	t.Helper()
	table := proxy.NewTable("h1", log)
	cert, key := certificate(t)
	p, err := proxy.New(table, proxy.Options{
		Host: "h1", Domain: "example.org", Hold: time.Minute, Access: s.smuggled, Log: log, TLS: &proxy.CertificateFiles{Cert: cert, Key: key},
	})
	if err != nil {
		t.Fatal(err)
	}
	follow, stop := context.WithCancel(context.Background())
	var work sync.WaitGroup
	routes := filepath.Join(t.TempDir(), "routes")
	work.Go(func() { table.Follow(follow, etcd, routes, log) })
	table.AwaitLoaded(t.Context())
	plain, secure := listen(t), listen(t)
	s.http, s.https = plain.Addr().String(), secure.Addr().String()
	work.Go(func() { p.Serve(plain) })
	work.Go(func() { p.ServeTLS(secure) })
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := p.Shutdown(ctx); err != nil {
			t.Errorf("after all attacks the proxy does not end in good order: %v", err)
		}
		stop()
		work.Wait()
	})
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

// served is a tenant's runner before a real cell, outside a container.
type served struct {
	t      *testing.T
	socket string
	config cluster.RunnerConfig
}

func serve(t *testing.T, tenant string, keys []cluster.Key, functions map[string]string) *served {
	t.Helper()
	// Short, for sockets: a test's own directory bears the test's name.
	dir, err := os.MkdirTemp("", "bh")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, d := range []string{"functions", "cell"} {
		if err := os.Mkdir(at(d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, code := range functions {
		f := cluster.Function{File: name + ".js", Code: code}
		f.Version = f.Digest()
		data, err := json.Marshal(f)
		if err == nil {
			err = os.WriteFile(at("functions/"+name+".json"), data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	startCell(t, at("cell"))
	v := &served{t: t, socket: at("run.sock"), config: cluster.RunnerConfig{Tenant: tenant, Instance: tenant + ".0", Keys: keys, Limits: cluster.Limits{Body: 64 << 10}}}
	r, err := runner.New(v.config, runner.Options{Functions: at("functions"), Cell: at("cell"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("unix", v.socket)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- r.Serve(ln) }()
	t.Cleanup(func() {
		ln.Close()
		r.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return v
}

// reload gives the runner other keys, as the agent does.
func (v *served) reload(keys []cluster.Key) error {
	config := v.config
	config.Keys = keys
	body, err := json.Marshal(config)
	if err != nil {
		return err
	}
	c, err := net.Dial("unix", v.socket)
	if err != nil {
		return err
	}
	client := frames.NewClient(c, "agent")
	defer client.Close()
	status, answer, err := client.Do(v.t.Context(), frames.Request{Method: []byte("PUT"), Target: []byte("/reload"), Body: body}, 1<<16)
	if err == nil && status != 200 {
		err = fmt.Errorf("the runner answers %d %s", status, answer)
	}
	return err
}

// built is a real cell's binary, and the Node that the image holds.
var built = sync.OnceValues(func() (paths [2]string, err error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return paths, err
	}
	cache := filepath.Join(base, "bulkhead", "image")
	if dir := os.Getenv("BULKHEAD_CACHE"); dir != "" {
		cache = dir
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return paths, err
	}
	paths[0] = filepath.Join(cache, "attack-cell")
	build := exec.Command("go", "build", "-o", paths[0], "bulkhead/cmd/bulkhead-cell")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return paths, fmt.Errorf("cannot build the cell: %w\n%s", err, out)
	}
	paths[1], err = node.Fetch(context.Background(), cache, io.Discard)
	return paths, err
})

func startCell(t *testing.T, dir string) {
	t.Helper()
	binaries, err := built()
	if err != nil {
		t.Fatal(err)
	}
	harness, err := filepath.Abs("../../images/node/harness")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binaries[0])
	cmd.Env = []string{"BULKHEAD_CELL_DIR=" + dir, "BULKHEAD_CELL_NODE=" + binaries[1], "BULKHEAD_CELL_HARNESS=" + harness, "BULKHEAD_CELL_USERS=one"}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { family.End(cmd) })
	// The cell tells nobody that it is up but those who connect.
	for {
		c, err := net.Dial("unix", filepath.Join(dir, "control.sock"))
		if err == nil {
			c.Close()
			return
		}
		if t.Context().Err() != nil {
			t.Fatal("the cell did not come up")
		}
	}
}
