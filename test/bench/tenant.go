package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	keys "bulkhead/cluster"
	"bulkhead/internal/etcd"
)

// started says how long each took.
type started struct{ put, deploy, code time.Duration }

// rest lets the next spare boot, which takes a tenth of a second of CPU.
const rest = time.Second

// startTenant registers a tenant whose function is there already, deploys
// another version, and runs code, each by its key or request alone.
func (c *cluster) startTenant(ctx context.Context, tenant string) (s started, err error) {
	cli, err := etcd.Open(etcd.Config{Endpoints: []string{c.etcd}})
	if err != nil {
		return s, err
	}
	defer cli.Close()
	const secret = "only-for-benchmarks-on-this-machine"
	put := func(key string, v any) error {
		data, err := json.Marshal(v)
		if err == nil {
			_, err = cli.Put(ctx, key, string(data))
		}
		return err
	}
	version := func(n int) keys.Function {
		return keys.Function{File: "start.js", Code: fmt.Sprintf("module.exports = (cb) => cb(null, %d);", n)}
	}
	if err := put(keys.FunctionKey(tenant, "f"), version(1)); err != nil {
		return s, err
	}
	t := target{name: tenant, url: c.proxy + "/" + tenant + "/f", token: sign(tenant, secret)}
	begun := time.Now()
	if _, err := cli.Put(ctx, keys.TenantKey(tenant), `{"keys": [{"kid": "k1", "alg": "HS256", "secret": "`+secret+`"}], "limits": {"rate": 0}}`); err != nil {
		return s, err
	}
	if s.put, err = until(ctx, t, begun, "1"); err != nil {
		return s, err
	}
	time.Sleep(rest)
	begun = time.Now()
	if err := put(keys.FunctionKey(tenant, "f"), version(2)); err != nil {
		return s, err
	}
	if s.deploy, err = until(ctx, t, begun, "2"); err != nil {
		return s, err
	}
	time.Sleep(rest)
	s.code, err = c.runCode(ctx, tenant, t.token)
	return s, err
}

// until asks again and again for the answer wanted.
func until(ctx context.Context, t target, begun time.Time, want string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		status, body, err := get(ctx, t)
		if err == nil && status == 200 && body == want {
			return time.Since(begun), nil
		}
		if ctx.Err() != nil {
			return 0, fmt.Errorf("%s never answered %s; last: %d %s %v", t.name, want, status, body, err)
		}
		time.Sleep(time.Millisecond)
	}
}

func (c *cluster) runCode(ctx context.Context, tenant, token string) (time.Duration, error) {
	begun := time.Now()
	req, err := http.NewRequestWithContext(ctx, "POST", c.proxy+"/api/run/"+tenant, strings.NewReader("module.exports = async () => 'done';"))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		return 0, fmt.Errorf("code answered %d", resp.StatusCode)
	}
	return time.Since(begun), nil
}

func sign(tenant, secret string) string {
	t := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"ten": tenant, "exp": time.Now().Add(time.Hour).Unix()})
	token, err := t.SignedString([]byte(secret))
	if err != nil {
		panic(err) // only for a key of another type
	}
	return token
}
