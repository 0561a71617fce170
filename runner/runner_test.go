package runner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"bulkhead/cluster"
	"bulkhead/images/node"
	"bulkhead/internal/frames"
	"bulkhead/test/family"
)

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
	paths[0] = filepath.Join(cache, "test-cell")
	build := exec.Command("go", "build", "-o", paths[0], "bulkhead/cmd/bulkhead-cell")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return paths, fmt.Errorf("cannot build the cell: %w\n%s", err, out)
	}
	paths[1], err = node.Fetch(context.Background(), cache, io.Discard)
	return paths, err
})

// rig is a runner before a real cell, outside a container, and a client on the
// runner's socket.
type rig struct {
	*frames.Client
	t      *testing.T
	runner *Runner
	dir    string
	socket string
	config cluster.RunnerConfig
	token  string
}

func newRig(t *testing.T, limits cluster.Limits) *rig {
	t.Helper()
	binaries, err := built()
	if err != nil {
		t.Fatal(err)
	}
	// Short, for sockets: a test's own directory bears the test's name.
	dir, err := os.MkdirTemp("", "rig")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &rig{t: t, dir: dir, socket: filepath.Join(dir, "run.sock"), config: cluster.RunnerConfig{
		Tenant: "acme", Instance: "acme.0", Limits: limits,
		Keys: []cluster.Key{{KID: "k1", Alg: "HS256", Secret: secret}},
	}}
	r.token = r.sign(m{})
	for _, d := range []string{"functions", "cell"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	startCell(t, binaries, filepath.Join(dir, "cell"))
	r.runner, err = New(r.config, Options{Functions: filepath.Join(dir, "functions"), Cell: filepath.Join(dir, "cell"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("unix", r.socket)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- r.runner.Serve(ln) }()
	t.Cleanup(func() {
		ln.Close()
		r.runner.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	r.Client = r.dial("proxy")
	return r
}

func startCell(t *testing.T, binaries [2]string, dir string) {
	t.Helper()
	harness, err := filepath.Abs("../images/node/harness")
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
		if t.Context().Err() != nil || cmd.Process.Signal(nil) == nil {
			t.Fatal("the cell did not come up")
		}
	}
}

func (r *rig) dial(role string) *frames.Client {
	r.t.Helper()
	c, err := net.Dial("unix", r.socket)
	if err != nil {
		r.t.Fatal(err)
	}
	client := frames.NewClient(c, role)
	r.t.Cleanup(client.Close)
	return client
}

func (r *rig) sign(claims m) string {
	all := m{"ten": "acme", "exp": time.Now().Add(time.Hour).Unix()}
	for k, v := range claims {
		all[k] = v
	}
	return string(sign(r.t, issuer{method: jwt.SigningMethodHS256, key: []byte(secret)}, m{"kid": "k1"}, all))
}

// deploy writes a function as the agent does, and tells the runner.
func (r *rig) deploy(name, code string) {
	r.t.Helper()
	r.deployWith(name, code, nil)
}

// deployWith gives the function limits of its own.
func (r *rig) deployWith(name, code string, limits *cluster.LowerLimits) {
	r.t.Helper()
	f := cluster.Function{File: name + ".js", Code: code, Limits: limits}
	f.Version = f.Digest()
	data, err := json.Marshal(f)
	if err == nil {
		err = os.WriteFile(filepath.Join(r.dir, "functions", name+".json"), data, 0o600)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	if status, body := r.reload(nil); status != 200 {
		r.t.Fatalf("reload: %d %s", status, body)
	}
}

// remove takes a function away as the agent does.
func (r *rig) remove(name string) {
	r.t.Helper()
	if err := os.Remove(filepath.Join(r.dir, "functions", name+".json")); err != nil {
		r.t.Fatal(err)
	}
	if status, body := r.reload(nil); status != 200 {
		r.t.Fatalf("reload: %d %s", status, body)
	}
}

// awaitLive returns once so many processes are live.
func (r *rig) awaitLive(n int) {
	r.t.Helper()
	for {
		r.runner.mu.Lock()
		live := len(r.runner.live)
		r.runner.mu.Unlock()
		if live == n {
			return
		}
		if r.t.Context().Err() != nil {
			r.t.Fatalf("%d processes are live, want %d", live, n)
		}
	}
}

func (r *rig) reload(config any) (int, string) {
	r.t.Helper()
	var body []byte
	if config != nil {
		body, _ = json.Marshal(config)
	}
	status, answer, err := r.dial("agent").Do(r.t.Context(), frames.Request{Method: []byte("PUT"), Target: []byte("/reload"), Body: body}, 1<<20)
	if err != nil {
		r.t.Fatal(err)
	}
	return status, string(answer)
}

// request is what the proxy makes of a client's.
func (r *rig) request(function, token, method, body string) frames.Request {
	f := append([]byte{}, frames.NoFields...)
	f = frames.AppendField(f, 0, frames.FieldRequestID, []byte("r1"))
	f = frames.AppendField(f, 0, frames.FieldFunction, []byte(function))
	f = frames.AppendField(f, 0, frames.FieldClaims, []byte(`{"ten":"forged"}`))
	h := frames.AppendHeaderCount(nil)
	if token != "" {
		h = frames.AppendHeaderLine(h, 0, []byte("authorization"), []byte("Bearer "+token))
	}
	return frames.Request{Fields: f, Method: []byte(method), Target: []byte("/acme/" + function + "?x=1"), Headers: h, Body: []byte(body)}
}

func (r *rig) call(function string) (int, string) {
	r.t.Helper()
	status, body, err := r.Do(r.t.Context(), r.request(function, r.token, "GET", ""), 1<<20)
	if err != nil {
		r.t.Fatal(err)
	}
	return status, string(body)
}

func (r *rig) want(function string, status int, says string) {
	r.t.Helper()
	if got, body := r.call(function); got != status || !strings.Contains(body, says) {
		r.t.Fatalf("%s: got %d %s, want %d with %q", function, got, body, status, says)
	}
}

func TestRequestIsServedByItsFunctionWithoutItsToken(t *testing.T) {
	r := newRig(t, cluster.Limits{})
	r.deploy("hello", `module.exports = async (ctx) => ({ query: ctx.query, headers: Object.keys(ctx.headers), params: ctx.params });`)
	r.token = r.sign(m{"pctx": m{"greeting": "hi"}})
	r.want("hello", 200, `{"query":{"x":"1"},"headers":[],"params":{"greeting":"hi"}}`)
	r.want("nothing", 404, "function_unknown")
	r.want("../hello", 404, "function name")
}

func TestNewVersionServesTheNextRequestWhileTheOldFinishes(t *testing.T) {
	r := newRig(t, cluster.Limits{})
	r.deploy("f", `module.exports = (ctx, req, res) => { res.write('one'); req.on('end', () => res.end(' done')).resume(); };`)
	old, err := r.Open(r.request("f", r.token, "POST", ""), false)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	if chunk, err := old.Next(t.Context()); string(chunk) != "one" {
		t.Fatalf("got %q %v", chunk, err)
	}
	r.deploy("f", `module.exports = (cb) => cb(null, 'two');`)
	r.want("f", 200, "two")
	if err := old.Write(t.Context(), nil, true); err != nil {
		t.Fatal(err)
	}
	if chunk, err := old.Next(t.Context()); string(chunk) != " done" {
		t.Fatalf("the old version ends with %q %v", chunk, err)
	}
}

func TestKeysAndLimitsChangeWithoutARestart(t *testing.T) {
	r := newRig(t, cluster.Limits{})
	r.deploy("f", `module.exports = (cb) => cb(null, 'ok');`)
	r.want("f", 200, "ok")
	next := r.config
	next.Keys = []cluster.Key{{KID: "k2", Alg: "HS256", Secret: strings.Repeat("n", 32)}}
	if status, body := r.reload(next); status != 200 {
		t.Fatalf("reload: %d %s", status, body)
	}
	r.want("f", 403, "token_foreign")
	other := next
	other.Tenant = "globex"
	for _, bad := range []any{other, "no configuration"} {
		if status, body := r.reload(bad); status != 400 {
			t.Fatalf("reload of %v: %d %s", bad, status, body)
		}
	}
	if status, body := r.reload(r.config); status != 200 {
		t.Fatalf("reload: %d %s", status, body)
	}
	r.want("f", 200, "ok")
}

func TestLimitsAreToldByName(t *testing.T) {
	tests := []struct {
		name   string
		limits cluster.Limits
		code   string
		body   string
		calls  int // of which the last is looked at
		status int
		says   string
	}{
		{"wall clock", cluster.Limits{Wall: cluster.Duration(50 * time.Millisecond)}, `module.exports = (cb) => {};`, "", 1, 504, "limits.wall"},
		{"body", cluster.Limits{Body: 10}, `module.exports = (cb) => cb(null, 1);`, "more than ten bytes", 1, 413, "limits.body"},
		{"rate", cluster.Limits{Rate: 0.001}, `module.exports = (cb) => cb(null, 1);`, "", 2, 429, "limits.rate"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, tt.limits)
			r.deploy("f", tt.code)
			status, body := 0, []byte(nil)
			for range tt.calls {
				var err error
				if status, body, err = r.Do(t.Context(), r.request("f", r.token, "POST", tt.body), 1000); err != nil {
					t.Fatal(err)
				}
			}
			if status != tt.status || !strings.Contains(string(body), tt.says) {
				t.Fatalf("got %d %s", status, body)
			}
		})
	}
}

func TestRequestsOverTheConcurrencyLimitAreTurnedAway(t *testing.T) {
	r := newRig(t, cluster.Limits{Concurrency: 1})
	r.deploy("f", `module.exports = (ctx, req, res) => { res.write('here'); req.on('end', () => res.end()).resume(); };`)
	first, err := r.Open(r.request("f", r.token, "POST", ""), false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.Response(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.want("f", 429, "limits.concurrency")
	first.Close()
	second, err := r.Open(r.request("f", r.token, "POST", ""), true)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if head, err := second.Response(t.Context()); err != nil || head.Status != 200 {
		t.Fatalf("after the first has gone: %d %v", head.Status, err)
	}
}

func TestOneOffCodeRunsAndIsNamedByItsContent(t *testing.T) {
	r := newRig(t, cluster.Limits{Code: 1000})
	run := func(token, code string) (int, string) {
		status, body, err := r.Do(t.Context(), r.request("", token, "POST", code), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		return status, string(body)
	}
	for range 2 {
		if status, body := run(r.token, `module.exports = async (ctx) => [6 * 7, ctx.query.x]`); status != 200 || body != `[42,"1"]` {
			t.Fatalf("got %d %s", status, body)
		}
	}
	if n := len(r.runner.processes); n != 1 {
		t.Errorf("%d processes for the same code twice", n)
	}
	if status, body := run(r.token, strings.Repeat(" ", 1001)); status != 400 || !strings.Contains(body, "limits.code") {
		t.Errorf("too much code: %d %s", status, body)
	}
	if status, body := run(r.sign(m{"jtn": "hello"}), "1"); status != 403 {
		t.Errorf("with a token for a function: %d %s", status, body)
	}
	if status, body := run(r.token, "module.exports = ("); status != 400 || !strings.Contains(body, "SyntaxError") {
		t.Errorf("bad code: %d %s", status, body)
	}
}

func TestOnlyRootIsTheAgentAndOthersMayNotReload(t *testing.T) {
	r := newRig(t, cluster.Limits{})
	status, _, err := r.Do(t.Context(), frames.Request{Method: []byte("PUT"), Target: []byte("/reload")}, 1000)
	if err != nil || status != 401 {
		t.Errorf("reload from a proxy: %d %v, want 401 like any request without token", status, err)
	}
	if _, _, err := r.dial("function").Do(t.Context(), frames.Request{Method: []byte("GET"), Target: []byte("/")}, 100); !errors.Is(err, frames.ErrClosed) {
		t.Errorf("a function that connects gets %v", err)
	}
}

func TestDrainFinishesWhatIsInFlightAndTakesNothingNew(t *testing.T) {
	r := newRig(t, cluster.Limits{})
	r.deploy("f", `module.exports = (ctx, req, res) => { res.write('here'); req.on('end', () => res.end(' done')).resume(); };`)
	s, err := r.Open(r.request("f", r.token, "POST", ""), false)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Next(t.Context()); err != nil {
		t.Fatal(err)
	}
	drained := make(chan error, 1)
	go func() { drained <- r.runner.Drain(t.Context()) }()
	for r.Usable() { // until GOAWAY is here
		if t.Context().Err() != nil {
			t.Fatal("no GOAWAY came")
		}
	}
	if _, err := r.Open(r.request("f", r.token, "GET", ""), true); !errors.Is(err, frames.ErrRefused) {
		t.Errorf("a new request: %v", err)
	}
	if err := s.Write(t.Context(), nil, true); err != nil {
		t.Fatal(err)
	}
	if chunk, err := s.Next(t.Context()); string(chunk) != " done" {
		t.Errorf("in flight: %q %v", chunk, err)
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
}
