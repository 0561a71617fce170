package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestRuntime tries what tenants' code does to itself, to its neighbours and
// to the platform, on one cluster with many tenants.
func TestRuntime(t *testing.T) {
	m := thisMachine(t)
	m.up()
	for _, part := range []struct {
		name string
		do   func(*testing.T, *machine)
	}{
		{"code that misbehaves", misbehave},
		{"exits and crash loops", exits},
		{"limits of functions and tokens", lowerLimits},
		{"every kind of body and connection", wires},
		{"new versions under load", newVersions},
		{"slow outgoing requests beside hard work", slowRequests},
	} {
		ok := t.Run(part.name, func(t *testing.T) { part.do(t, m.on(t)) })
		if !ok {
			log, _ := m.try("tail", "-n", "40", m.state+"/up.log")
			t.Logf("the log of bulkhead up ends with\n%s", log)
		}
	}
}

// on is the same machine, in another test's name.
func (m *machine) on(t *testing.T) *machine {
	c := *m
	c.t = t
	return &c
}

// tenant is one that is registered, with what is needed to call it.
type tenant struct {
	m     *machine
	name  string
	token string
	dir   string
}

// tenant registers a tenant whose spec has the members of more beside its key.
func (m *machine) tenant(name, more string) *tenant {
	m.t.Helper()
	m.put(name, strings.TrimSuffix(specOf(name), "}")+", "+more+"}")
	m.await(name+" can be called", func() bool { p := m.phase(name); return p == "dormant" || p == "ready" })
	return &tenant{m: m, name: name, token: m.token(name), dir: m.t.TempDir()}
}

// deploy writes a function, whose file is its name with .js, and waits until
// it is live.
func (c *tenant) deploy(function, code string, flags ...string) error {
	return c.deployFile(function, function+".js", code, flags...)
}

func (c *tenant) deployFile(function, file, code string, flags ...string) error {
	path := filepath.Join(c.dir, file)
	if err := os.WriteFile(path, []byte(code), 0o600); err != nil {
		return err
	}
	args := append([]string{"function", "deploy", c.name, function, path}, flags...)
	if out, err := c.m.try(c.m.command(args...)...); err != nil {
		return fmt.Errorf("deploy %s: %w\n%s", function, err, out)
	}
	return nil
}

func (c *tenant) mustDeploy(function, code string, flags ...string) {
	c.m.t.Helper()
	if err := c.deploy(function, code, flags...); err != nil {
		c.m.t.Fatal(err)
	}
}

// got is an answer.
type got struct {
	status int
	header http.Header
	body   string
	err    error
	took   time.Duration

	Error, Message, Limit, Value, Measured, Where string // of an answer of the platform
	ReqID                                         string `json:"req_id"`
}

func (g got) String() string {
	if g.err != nil {
		return fmt.Sprintf("%v after %v", g.err, g.took.Round(time.Millisecond))
	}
	return fmt.Sprintf("%d %.300s after %v", g.status, g.body, g.took.Round(time.Millisecond))
}

func (g got) ok(body string) bool { return g.err == nil && g.status == 200 && g.body == body }

// callers keeps connections, as many as there are requests at a time.
var callers = &http.Client{
	Transport: &http.Transport{MaxIdleConnsPerHost: 2000, DisableCompression: true},
	Timeout:   time.Minute,
}

// request makes one for a path of a tenant, with its token.
func (c *tenant) request(ctx context.Context, method, path string, body io.Reader) *http.Request {
	req, err := http.NewRequestWithContext(ctx, method, c.m.proxy+"/"+c.name+"/"+path, body)
	if err != nil {
		panic(err)
	}
	req.Header.Set("authorization", "Bearer "+c.token)
	return req
}

func (c *tenant) get(path string) got { return c.do("GET", path, "") }

func (c *tenant) do(method, path, body string) got {
	return send(c.request(context.Background(), method, path, strings.NewReader(body)))
}

func send(req *http.Request) (g got) {
	began := time.Now()
	defer func() { g.took = time.Since(began) }()
	res, err := callers.Do(req)
	if err != nil {
		return got{err: err}
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	g = got{status: res.StatusCode, header: res.Header, body: string(body), err: err}
	if res.StatusCode >= 400 && bytes.HasPrefix(body, []byte("{")) {
		json.Unmarshal(body, &g)
	}
	return g
}

// start sends a request, and gives its answer when it is there.
func (c *tenant) start(method, path string) <-chan got {
	answer := make(chan got, 1)
	go func() { answer <- c.do(method, path, "") }()
	return answer
}

// watcher calls a function over and over, and keeps what went wrong.
type watcher struct {
	stop   context.CancelFunc
	done   chan struct{}
	beat   chan struct{} // one more call was answered
	calls  int
	failed []got
	worst  time.Duration
}

// watch calls a function, which answers "quick", every few milliseconds until
// it is stopped.
func (c *tenant) watch(path string) *watcher {
	ctx, stop := context.WithCancel(context.Background())
	w := &watcher{stop: stop, done: make(chan struct{}), beat: make(chan struct{})}
	go func() {
		defer close(w.done)
		tick := time.NewTicker(40 * time.Millisecond)
		defer tick.Stop()
		for {
			g := c.get(path)
			w.calls++
			w.worst = max(w.worst, g.took)
			if !g.ok("quick") {
				w.failed = append(w.failed, g)
			}
			select {
			case w.beat <- struct{}{}:
				<-tick.C
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	return w
}

func (w *watcher) end() {
	w.stop()
	<-w.done
}
