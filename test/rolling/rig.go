package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"bulkhead/cluster"
	"bulkhead/internal/etcd"
	"bulkhead/test/host/fleet"
	"bulkhead/test/load"
)

// rig is a cluster with tenants.
type rig struct {
	plan
	fleet   *fleet.Fleet
	etcd    *clientv3.Client
	proxies []string
	calls   []load.Call
	echo    load.Call
	slow    load.Call
	last    int // rollouts begun
}

// tenants are those that are called: two have two instances, of one of which
// hosts have labels, one has one.
var tenants = []struct{ name, more string }{
	{"pair", `"replicas": {"min": 2}`},
	{"single", `"replicas": {"min": 1, "max": 1}`},
	{"spread", `"replicas": {"min": 2}, "placement": {"spread": "zone"}`},
}

func say(format string, args ...any) { fmt.Fprintf(os.Stderr, "    "+format+"\n", args...) }

func newRig(ctx context.Context, p plan) (*rig, error) {
	root, err := filepath.Abs(".")
	if err != nil {
		return nil, err
	}
	r := &rig{plan: p, fleet: &fleet.Fleet{Name: "rolling", Dir: filepath.Join(root, ".cache", "rolling"), Root: root, Say: say}}
	if err := fleet.Up(ctx, r.fleet, 3); err != nil {
		return nil, err
	}
	for _, h := range r.fleet.Hosts {
		r.proxies = append(r.proxies, h.Proxy())
	}
	if r.etcd, err = etcd.Open(r.fleet.EtcdConfig()); err != nil {
		return nil, err
	}
	return r, r.tenants(ctx)
}

func (r *rig) close() {
	r.etcd.Close()
	if r.keep {
		return
	}
	if err := r.fleet.Down(context.Background()); err != nil {
		say("%v", err)
	}
}

func (r *rig) tenants(ctx context.Context) error {
	deploy := func(tenant, function, source string) (load.Call, error) {
		file := filepath.Join(r.fleet.Dir, function+".js")
		if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
			return load.Call{}, err
		}
		if out, err := r.fleet.Bulkhead(ctx, "function", "deploy", tenant, function, file).CombinedOutput(); err != nil {
			return load.Call{}, fmt.Errorf("%w: %s", err, out)
		}
		token, err := r.fleet.Bulkhead(ctx, "token", tenant, "--expires", "24h").Output()
		return load.Call{Path: "/" + tenant + "/" + function, Token: strings.TrimSpace(string(token))}, err
	}
	for _, t := range tenants {
		spec := fmt.Sprintf(`{"keys": [{"kid": "1", "alg": "HS256", "secret": "only-for-benchmarks-on-this-machine"}], "limits": {"rate": 0}, %s}`, t.more)
		if _, err := r.etcd.Put(ctx, cluster.TenantKey(t.name), spec); err != nil {
			return err
		}
		c, err := deploy(t.name, "hello", fmt.Sprintf(`module.exports = (cb) => cb(null, 'hello from %s');`, t.name))
		if err != nil {
			return err
		}
		c.Want = "hello from " + t.name
		r.calls = append(r.calls, c)
	}
	var err error
	if r.echo, err = deploy("pair", "echo", load.EchoSource); err != nil {
		return err
	}
	r.slow, err = deploy("spread", "slow", `module.exports = (cb) => setTimeout(() => cb(null, 'at last'), 20000);`)
	r.slow.Want = "at last"
	return err
}

// measure has a part happen under load, and prints what requests saw of it.
func (r *rig) measure(ctx context.Context, p part) error {
	say("%s", p.what)
	l := load.Start(ctx, load.Options{Proxies: r.proxies, Calls: r.calls, Every: time.Second / time.Duration(r.rate)})
	var echoes *load.Echoes
	var slow *load.Load
	if p.streams {
		echoes = load.StartEchoes(ctx, r.proxies, r.echo, 12, 500*time.Millisecond)
		slow = load.Start(ctx, load.Options{Proxies: r.proxies, Calls: []load.Call{r.slow}, Every: 2 * time.Second})
	}
	took, err := p.do(ctx, r)
	var e load.EchoResult
	var s load.Result
	if p.streams {
		e, s = echoes.Stop(), slow.Stop()
	}
	res := l.Stop()
	fmt.Printf("| %s | %d | %d | %s | %s | %s | %d | %d, %d | %d, %d | %s |\n", p.what, res.Sent, len(res.Failed), res.P50, res.P99, res.Longest, e.Echoes, e.Told, len(e.Broken), s.Sent, len(s.Failed), took)
	lost := map[string]int{}
	for i, f := range append(res.Failed, s.Failed...) {
		if lost[f.Call.Path]++; i < 5 {
			say("failed: %s", f)
		}
	}
	if len(lost) > 0 {
		say("failed, by function: %v", lost)
	}
	for i, b := range e.Broken {
		if i < 5 {
			say("broken: %s", b)
		}
	}
	if err == nil && !p.loses && len(res.Failed)+len(s.Failed)+len(e.Broken) > 0 {
		err = fmt.Errorf("%d requests, %d long ones and %d WebSockets were lost", len(res.Failed), len(s.Failed), len(e.Broken))
	}
	if res.Sent == 0 {
		err = fmt.Errorf("nothing was sent")
	}
	return err
}

// begin writes a rollout and returns its id.
func (r *rig) begin(ctx context.Context, spec cluster.Rollout) (string, error) {
	r.last++
	id := fmt.Sprintf("bench-%d-%d", time.Now().Unix(), r.last)
	data, err := json.Marshal(spec)
	if err == nil {
		_, err = r.etcd.Put(ctx, cluster.RolloutKey(id), string(data))
	}
	return id, err
}

// follow waits until a rollout comes to a phase, and tells seen of every step of
// a host on the way. A phase that it is in when we begin to look is one that it
// was in before it was told to go on.
func (r *rig) follow(ctx context.Context, id, phase string, seen func(cluster.Cycle)) (cluster.RolloutStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	var status cluster.RolloutStatus
	for b := range etcd.Watch(ctx, r.etcd, cluster.RolloutStatusKey(id), cluster.CyclesPrefix) {
		if b.Snapshot {
			continue
		}
		for _, e := range b.Events {
			if strings.HasPrefix(e.Key, cluster.CyclesPrefix) {
				var c cluster.Cycle
				if !e.Deleted && json.Unmarshal(e.Value, &c) == nil && seen != nil {
					seen(c)
				}
				continue
			}
			if !e.Deleted {
				if err := json.Unmarshal(e.Value, &status); err != nil {
					return status, err
				}
			}
		}
		if status.Phase == phase {
			return status, nil
		}
		if status.Phase == cluster.RolloutStopped || status.Phase == cluster.RolloutAborted {
			return status, fmt.Errorf("rollout %s is %s: %s", id, status.Phase, status.Reason)
		}
	}
	return status, fmt.Errorf("rollout %s is still %s after 15 minutes, not %s: %s", id, status.Phase, phase, status.Reason)
}
