package agent_test

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
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/agent"
	"bulkhead/agent/cells"
	"bulkhead/agent/docker"
	"bulkhead/agent/docker/dockertest"
	"bulkhead/agent/egress"
	"bulkhead/agent/supervisor"
	"bulkhead/agent/systemd"
	"bulkhead/cluster"
	"bulkhead/internal/etcd"
	"bulkhead/internal/etcd/etcdtest"
	"bulkhead/internal/frames"
	"bulkhead/units"
)

func TestMain(m *testing.M) {
	supervisor.MaybeJail()
	if config := os.Getenv(processEnv); config != "" {
		runProcess(config)
	}
	code := m.Run()
	os.RemoveAll(builtDir)
	os.Exit(code)
}

// builtDir is where buildRunner builds; empty when it has not.
var builtDir string

// services are what the agent under test runs units by.
type services interface {
	agent.Services
	io.Closer
}

// openServices opens systemd where it is PID 1, the supervisor elsewhere.
func openServices(p cluster.Paths, log *slog.Logger) (services, error) {
	if !systemd.Running() {
		return supervisor.Open(p.Run, p.State, log)
	}
	return systemd.Open(context.Background(), log)
}

// runnerEnv names a runner that was built already.
const runnerEnv = "BULKHEAD_TEST_RUNNER"

var buildRunner = sync.OnceValues(func() (string, error) {
	if built := os.Getenv(runnerEnv); built != "" {
		return built, nil
	}
	dir, err := os.MkdirTemp("", "bhrunner")
	if err != nil {
		return "", err
	}
	builtDir = dir
	bin := filepath.Join(dir, "bulkhead-runner")
	build := exec.Command("go", "build", "-o", bin, "bulkhead/cmd/bulkhead-runner")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("cannot build runner: %w\n%s", err, out)
	}
	return bin, os.Chmod(dir, 0o755)
})

// site is a host under test: real etcd, Docker, supervisor and runner; the
// container is dockertest's probe.
type site struct {
	t      *testing.T
	host   cluster.Host
	server *etcd.Server
	etcd   *clientv3.Client
	log    *slog.Logger

	tick     time.Duration // of its agents
	pool     int           // blank cells that they keep
	proxy    []string      // unit of the host's proxy
	egress   *egress.Config
	failures string // where that counts requests that failed
	services services
	engine   *docker.Engine
	cancel   context.CancelFunc
	done     chan struct{}
}

func newSite(t *testing.T, name string) *site {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	dockertest.Client(t)
	runner, err := buildRunner()
	if err != nil {
		t.Fatal(err)
	}
	base, err := os.MkdirTemp("", "bh") // t.TempDir's paths are too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	os.Chmod(base, 0o755)
	s := &site{t: t, tick: time.Second, log: slog.New(slog.NewTextHandler(io.Writer(t.Output()), nil))}
	s.host = cluster.Host{
		Name: name, ProxyGID: agent.ProxyUID, Init: "supervisor",
		Paths: cluster.Paths{Run: base + "/run", State: base + "/state", Runner: runner},
	}
	s.server, s.etcd = etcdtest.New(t)
	t.Cleanup(func() {
		s.stop()
		s.open()
		defer s.close()
		if err := agent.Cleanup(context.Background(), s.config()); err != nil {
			t.Error(err)
		}
		if left, err := s.services.States(context.Background(), "bulkhead-"); err != nil || len(left) > 0 {
			t.Errorf("left after cleaning up: %v (error %v)", left, err)
		}
	})
	return s
}

func (s *site) open() {
	s.t.Helper()
	var err error
	if s.services, err = openServices(s.host.Paths, s.log); err != nil {
		s.t.Fatal(err)
	}
	if s.engine, err = docker.Open(s.host.Name, s.log); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) close() {
	s.services.Close()
	s.engine.Close()
}

func (s *site) config() agent.Config {
	return agent.Config{
		Host: s.host, Etcd: s.etcd, Services: s.services, Engine: s.engine, Log: s.log,
		Pool: cells.Pool{Min: s.pool, Max: s.pool}, Proxy: s.proxy, Egress: s.egress, Failures: s.failures,
		TTL: 2 * time.Second, Tick: s.tick, Patience: 500 * time.Millisecond,
	}
}

// start runs an agent until stop.
func (s *site) start() {
	s.t.Helper()
	s.open()
	a, err := agent.New(s.config())
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel, s.done = cancel, make(chan struct{})
	go func() {
		defer close(s.done)
		if err := a.Run(ctx); err != nil {
			s.t.Error(err)
		}
	}()
}

func (s *site) stop() {
	if s.cancel == nil {
		return
	}
	s.cancel()
	<-s.done
	s.close()
	s.cancel = nil
}

func (s *site) put(key string, value any) int64 {
	s.t.Helper()
	text, ok := value.(string)
	if !ok {
		data, err := json.Marshal(value)
		if err != nil {
			s.t.Fatal(err)
		}
		text = string(data)
	}
	r, err := s.etcd.Put(s.t.Context(), key, text)
	if err != nil {
		s.t.Fatal(err)
	}
	return r.Header.Revision
}

func (s *site) placement(instance, image string) cluster.Placement {
	tenant, _, err := cluster.ParseInstance(instance)
	if err != nil {
		s.t.Fatal(err)
	}
	return cluster.Placement{
		Tenant: tenant, Instance: instance, Image: image, Reason: "the test says so",
		Keys:      []cluster.Key{{KID: "k", Alg: "HS256", Secret: strings.Repeat("s", 32)}},
		Resources: cluster.Resources{Memory: 64 << 20, CPU: 0.5, Pids: 32, Tmp: 1 << 20},
		Limits:    cluster.DefaultSpec().Limits,
	}
}

// place writes a placement, its units and, when there is none yet, a manifest
// of no functions, as a scheduler does.
func (s *site) place(p cluster.Placement) int64 {
	s.t.Helper()
	r, err := s.etcd.Get(s.t.Context(), cluster.ManifestKey(s.host.Name, p.Tenant), clientv3.WithCountOnly())
	if err != nil {
		s.t.Fatal(err)
	}
	if r.Count == 0 {
		s.deliver(p.Tenant)
	}
	us, err := units.Render(s.host, p)
	if err != nil {
		s.t.Fatal(err)
	}
	value, err := json.Marshal(p)
	if err != nil {
		s.t.Fatal(err)
	}
	ops := []etcd.Op{etcd.Put(cluster.PlacementKey(s.host.Name, p.Instance), value)}
	for _, u := range us {
		ops = append(ops, etcd.Put(cluster.UnitKey(s.host.Name, u.Name), []byte(u.Text)))
	}
	revision, err := etcd.Commit(s.t.Context(), s.etcd, nil, ops)
	if err != nil {
		s.t.Fatal(err)
	}
	return revision
}

// await waits until what the agent says about an instance is as wanted.
func (s *site) await(instance string, ok func(cluster.Instance, bool) bool) cluster.Instance {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	key := cluster.InstanceKey(s.host.Name, instance)
	var last cluster.Instance
	there := false
	for b := range etcd.Watch(ctx, s.etcd, key) {
		for _, e := range b.Events {
			last, there = cluster.Instance{}, !e.Deleted
			if there {
				if err := json.Unmarshal(e.Value, &last); err != nil {
					s.t.Fatal(err)
				}
			}
		}
		if ok(last, there) {
			return last
		}
	}
	s.t.Fatalf("%s stays %+v (there: %v)", instance, last, there)
	return last
}

func (s *site) awaitReady(instance string) cluster.Instance {
	s.t.Helper()
	return s.await(instance, func(i cluster.Instance, there bool) bool { return there && i.Phase == cluster.Ready })
}

// deliver gives the host a tenant's functions as the scheduler does, and
// returns the revision that they are as of. A function's name is its file's.
func (s *site) deliver(tenant string, fs ...cluster.Function) (revision int64) {
	s.t.Helper()
	r, err := s.etcd.Get(s.t.Context(), cluster.Root)
	if err != nil {
		s.t.Fatal(err)
	}
	revision = r.Header.Revision + 1 // that of the next write
	m := cluster.Manifest{Revision: revision, Functions: map[string]int64{}}
	ops := []clientv3.Op{clientv3.OpDelete(cluster.HostCopies(s.host.Name)+tenant+"/", clientv3.WithPrefix())}
	if len(fs) > 0 {
		ops = nil // etcd refuses to touch a key twice in one transaction
	}
	for _, f := range fs {
		name, _, _ := strings.Cut(f.File, ".")
		m.Functions[name] = revision
		text, err := json.Marshal(f)
		if err != nil {
			s.t.Fatal(err)
		}
		ops = append(ops, clientv3.OpPut(cluster.CopyKey(s.host.Name, tenant, name), mustJSON(s.t, cluster.Copy{Source: revision, Function: text})))
	}
	ops = append(ops, clientv3.OpPut(cluster.ManifestKey(s.host.Name, tenant), mustJSON(s.t, m)))
	if _, err := s.etcd.Txn(s.t.Context()).Then(ops...).Commit(); err != nil {
		s.t.Fatal(err)
	}
	return revision
}

func mustJSON(t *testing.T, value any) string {
	t.Helper()
	data, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// call sends one request to the instance's runner as the proxy would.
func (s *site) call(instance string) int {
	s.t.Helper()
	conn, err := net.Dial("unix", s.host.Paths.InstanceDir(instance).Socket())
	if err != nil {
		s.t.Fatal(err)
	}
	c := frames.NewClient(conn, "proxy")
	defer c.Close()
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	status, _, err := c.Do(ctx, frames.Request{Method: []byte("GET"), Target: []byte("/trial/hello")}, 1<<20)
	if err != nil {
		s.t.Fatal(err)
	}
	return status
}

func TestPlacementBecomesAReadyInstanceAndGoes(t *testing.T) {
	s := newSite(t, "agenttest-place")
	s.start()
	p := s.placement("trial.0", dockertest.Probe(t))
	s.deliver("trial", cluster.Function{File: "hello.js", Code: "module.exports = cb => cb(null, 1)"})
	began := time.Now()
	revision := s.place(p)
	i := s.awaitReady("trial.0")
	t.Logf("from placement to ready: %s", time.Since(began))
	if i.Placement != revision || i.Container == "" || i.Endpoint != s.host.Paths.InstanceDir("trial.0").Socket() {
		t.Errorf("instance reported as %+v", i)
	}
	if status := s.call("trial.0"); status != 401 {
		t.Errorf("a request without a token gets %d, want 401", status)
	}

	if _, err := s.etcd.Delete(t.Context(), cluster.HostPlacements(s.host.Name), clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	s.await("trial.0", func(_ cluster.Instance, there bool) bool { return !there })
	s.wantNothing()
}

// pause lets a little time pass between two looks at what has no events for
// us: the agent has them.
func (s *site) pause() {
	s.t.Helper()
	select {
	case <-s.t.Context().Done():
		s.t.Fatal("the test's time is over")
	case <-time.After(5 * time.Millisecond):
	}
}

// awaitContainers waits until the host has so many, and no more.
func (s *site) awaitContainers(n int) {
	s.t.Helper()
	for {
		cs, err := s.engine.List(s.t.Context())
		if err != nil {
			s.t.Fatal(err)
		}
		if len(cs) == n {
			return
		}
		s.pause()
	}
}

// wantNothing fails when anything of an instance is left on the host.
func (s *site) wantNothing() {
	s.t.Helper()
	s.awaitContainers(0)
	us, err := s.services.States(s.t.Context(), "bulkhead-")
	us = slices.DeleteFunc(us, func(u units.State) bool { return u.Name == agent.CellsSlice })
	if err != nil || len(us) > 0 {
		s.t.Errorf("units left: %v (error %v)", us, err)
	}
	if dirs, err := os.ReadDir(filepath.Join(s.host.Paths.Run, "instances")); err != nil || len(dirs) > 0 {
		s.t.Errorf("directories left: %v (error %v)", dirs, err)
	}
	// With cgroup version 1, runc and systemd leave some to each other.
	if groups, _ := filepath.Glob("/sys/fs/cgroup/*/bulkhead.slice/bulkhead-trial.slice"); len(groups) > 0 && !systemd.Running() {
		s.t.Errorf("cgroups left: %v", groups)
	}
}
