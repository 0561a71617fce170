package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/golang-jwt/jwt/v5"
	clientv3 "go.etcd.io/etcd/client/v3"

	keys "bulkhead/cluster"
)

const secret = "only-for-benchmarks-on-this-machine"

// settings are the members of a tenant's spec beside its keys (docs/spec.md).
type settings map[string]any

// roomy never refuses, never sleeps and has what bare Node has.
var roomy = settings{
	"resources": settings{"memory": "256MiB", "cpu": 2},
	"limits":    settings{"rate": 0, "concurrency": 10000, "body": "1GiB"},
	"sleep":     settings{"freeze": "0s", "dormant": "0s"},
}

// register writes a tenant's spec and returns at once.
func (c *cluster) register(ctx context.Context, tenant string, s settings) error {
	// One instance: what it is compared with is one process.
	spec := settings{"keys": []settings{{"kid": "k1", "alg": "HS256", "secret": secret}}, "replicas": settings{"max": 1}}
	for name, value := range s {
		spec[name] = value
	}
	return c.put(ctx, keys.TenantKey(tenant), spec)
}

// deploy writes a function and returns at once.
func (c *cluster) deploy(ctx context.Context, tenant, function, file, code string) error {
	return c.put(ctx, keys.FunctionKey(tenant, function), keys.Function{File: file, Code: code})
}

func (c *cluster) put(ctx context.Context, key string, v any) error {
	data, err := json.Marshal(v)
	if err == nil {
		_, err = c.etcd.Put(ctx, key, string(data))
	}
	return err
}

// remove ends a tenant, functions and all, as "bulkhead tenant rm --purge".
func (c *cluster) remove(ctx context.Context, tenant string) error {
	_, err := c.etcd.Txn(ctx).Then(clientv3.OpDelete(keys.TenantKey(tenant)), clientv3.OpDelete(keys.AppliedKey(tenant)),
		clientv3.OpDelete(keys.TenantFunctions(tenant), clientv3.WithPrefix())).Commit()
	return err
}

// function is a target for GETs to a tenant's function.
func (c *cluster) function(tenant, function string) target {
	t := target{name: "bulkhead, " + function, url: c.proxy + "/" + tenant + "/" + function, token: sign(tenant)}
	t.hops = map[string]func() ticks{
		"proxy":  func() ticks { return processTicks(c.servicePID("bulkhead-proxy.service")) },
		"runner": func() ticks { return processTicks(c.runner(tenant)) },
		"function": func() (sum ticks) {
			for _, pid := range nodes(c.cell(tenant).PID) {
				t := processTicks(pid)
				sum = ticks{sum.user + t.user, sum.system + t.system}
			}
			return sum
		},
	}
	return t
}

// runner is the process of a tenant's only runner; 0: there is none.
func (c *cluster) runner(tenant string) int { return c.servicePID("bulkhead-" + tenant + "-0.service") }

// cell is a container as the agent notes it.
type cell struct {
	ID, Container, Instance string
	PID                     int
	Leaving                 bool
}

func (c *cluster) cells() (all []cell) {
	files, _ := filepath.Glob(c.dir + "/run/cells/*/cell.json")
	for _, file := range files {
		var one cell
		data, err := os.ReadFile(file)
		if err == nil && json.Unmarshal(data, &one) == nil {
			all = append(all, one)
		}
	}
	return all
}

// cell is the tenant's only one; the zero cell if it has none.
func (c *cluster) cell(tenant string) cell {
	for _, one := range c.cells() {
		if one.Instance == tenant+".0" && !one.Leaving {
			return one
		}
	}
	return cell{}
}

// blank counts the cells that are nobody's yet and booted: those are frozen.
func (c *cluster) blank() (n int) {
	for _, one := range c.cells() {
		if one.Instance == "" && !one.Leaving && one.PID != 0 && frozen(one.PID) {
			n++
		}
	}
	return n
}

// leaving counts the cells that are being removed.
func (c *cluster) leaving() (n int) {
	for _, one := range c.cells() {
		if one.Leaving {
			n++
		}
	}
	return n
}

// phases counts instances by phase; those of one tenant, or of all.
func (c *cluster) phases(ctx context.Context, tenant string) map[keys.Phase]int {
	prefix := keys.InstancesPrefix + c.host + "/"
	if tenant != "" {
		prefix += tenant + ".0"
	}
	count := map[keys.Phase]int{}
	got, err := c.etcd.Get(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		return count
	}
	for _, kv := range got.Kvs {
		var i keys.Instance
		if json.Unmarshal(kv.Value, &i) == nil {
			count[i.Phase]++
		}
	}
	return count
}

// asleep waits until a tenant's instance is dormant.
func (c *cluster) asleep(ctx context.Context, tenant string) error {
	return await(ctx, tenant+" dormant", 30*time.Second, func() bool {
		return c.phases(ctx, tenant)[keys.Dormant] == 1 && c.runner(tenant) == 0
	})
}

func sign(tenant string) string {
	t := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"ten": tenant, "exp": time.Now().Add(12 * time.Hour).Unix()})
	token, err := t.SignedString([]byte(secret))
	if err != nil {
		panic(fmt.Sprintf("a token cannot be signed: %v", err)) // only with a key of another type
	}
	return token
}
