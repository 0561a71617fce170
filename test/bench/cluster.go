package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const spec = `{"keys": [{"kid": "k1", "alg": "HS256", "secret": "only-for-benchmarks-on-this-machine"}],
 "resources": {"memory": "256MiB", "cpu": 2}, "limits": {"rate": 0, "concurrency": 10000}}`

// functions do the same work as the bare server: read the query, answer JSON.
var functions = []struct{ name, file, source string }{
	{"callback", "callback.js", `module.exports = (ctx, cb) => cb(null, { hello: ctx.query.name || 'world' });`},
	{"fetch", "fetch.mjs", `export default { fetch(request) {
  const name = new URL(request.url).searchParams.get('name') || 'world';
  return new Response(JSON.stringify({ hello: name }), { headers: { 'content-type': 'application/json' } });
} };`},
	{"reqres", "reqres.js", `module.exports = (ctx, req, res) => {
  const body = JSON.stringify({ hello: ctx.query.name || 'world' });
  res.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) });
  res.end(body);
};`},
}

// cluster is a cluster of this machine beside any other: with directories,
// ports and a host name of its own.
type cluster struct {
	dir, etcd, proxy string
	image            string
	up               *exec.Cmd
	targets          []target
}

func newCluster(ctx context.Context) (c *cluster, err error) {
	dir, err := os.MkdirTemp("/run", "bulkhead-bench-")
	if err != nil {
		return nil, fmt.Errorf("cannot make a directory below /run (is this root?): %w", err)
	}
	c = &cluster{dir: dir}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	ports, err := freePorts(3)
	if err != nil {
		return nil, err
	}
	c.etcd, c.proxy = "http://127.0.0.1:"+ports[0], "http://127.0.0.1:"+ports[2]
	image, err := exec.CommandContext(ctx, "bin/bulkhead", "image", "build", "--state", dir+"/state").Output()
	if err != nil {
		return nil, fmt.Errorf("cannot build the image: %w", err)
	}
	c.image = strings.TrimSpace(string(image))
	if err := c.begin(ports); err != nil {
		return nil, err
	}
	return c, c.prepare(ctx)
}

func (c *cluster) place(verb string, more ...string) []string {
	return append([]string{verb, "--host", "bench", "--state", c.dir + "/state", "--run", c.dir + "/run"}, more...)
}

func (c *cluster) begin(ports []string) error {
	log, err := os.Create(c.dir + "/up.log")
	if err != nil {
		return err
	}
	defer log.Close()
	c.up = exec.Command("bin/bulkhead", c.place("up", "--etcd", c.etcd, "--etcd-peer", "http://127.0.0.1:"+ports[1], "--listen", "127.0.0.1:"+ports[2])...)
	c.up.Stdout, c.up.Stderr = log, log
	c.up.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.up.Start(); err != nil {
		return fmt.Errorf("cannot start the cluster: %w", err)
	}
	for deadline := time.Now().Add(time.Minute); ; {
		data, _ := os.ReadFile(c.dir + "/state/up.pid")
		if strings.Contains(string(data), "ready") {
			return nil
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(c.dir + "/up.log")
			return fmt.Errorf("the cluster does not come up:\n%s", text)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// prepare registers the tenant and deploys its functions.
func (c *cluster) prepare(ctx context.Context) error {
	if err := os.WriteFile(c.dir+"/load.json", []byte(spec), 0o600); err != nil {
		return err
	}
	if _, err := c.run(ctx, "tenant", "apply", "--name", "load", "-f", c.dir+"/load.json", "--wait"); err != nil {
		return err
	}
	token, err := c.run(ctx, "token", "load", "--expires", "12h")
	if err != nil {
		return err
	}
	for _, f := range functions {
		file := filepath.Join(c.dir, f.file)
		if err := os.WriteFile(file, []byte(f.source), 0o600); err != nil {
			return err
		}
		if _, err := c.run(ctx, "function", "deploy", "load", f.name, file); err != nil {
			return err
		}
		t := target{name: "bulkhead, " + f.name, url: c.proxy + "/load/" + f.name + "?name=x", token: strings.TrimSpace(token)}
		t.hops = map[string]func() int{
			"proxy":    func() int { return processTicks(c.servicePID("bulkhead-proxy.service")) },
			"runner":   func() int { return processTicks(c.servicePID("bulkhead-load-0.service")) },
			"function": func() int { return containerTicks(ctx, "bulkhead-load.0") },
		}
		if err := check(ctx, t); err != nil {
			return err
		}
		c.targets = append(c.targets, t)
	}
	return nil
}

func (c *cluster) run(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "bin/bulkhead", append([]string{"--endpoints", c.etcd, "--proxy", c.proxy}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("bulkhead %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// servicePID is the process of a unit, whoever runs it.
func (c *cluster) servicePID(unit string) int {
	if data, err := os.ReadFile(c.dir + "/run/supervisor/started/" + unit); err == nil {
		var note struct{ Process struct{ PID int } }
		if json.Unmarshal(data, &note) == nil {
			return note.Process.PID
		}
	}
	out, _ := exec.Command("systemctl", "show", "--property=MainPID", "--value", unit).Output()
	pid, _ := strconv.Atoi(strings.TrimSpace(string(out)))
	return pid
}

// containerTicks is the CPU time of all that the container's first process has
// started: the function's process, and spares that sleep.
func containerTicks(ctx context.Context, name string) int {
	cell, err := containerPID(ctx, name)
	if err != nil {
		return 0
	}
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", cell))
	sum := 0
	for _, list := range lists {
		children, _ := os.ReadFile(list)
		for _, child := range strings.Fields(string(children)) {
			pid, _ := strconv.Atoi(child)
			sum += processTicks(pid)
		}
	}
	return sum
}

func containerPID(ctx context.Context, name string) (int, error) {
	out, err := exec.CommandContext(ctx, "docker", "inspect", "--format", "{{.State.Pid}}", name).Output()
	if err != nil {
		return 0, fmt.Errorf("cannot inspect %s: %w", name, err)
	}
	return strconv.Atoi(strings.TrimSpace(string(out)))
}

// close takes everything down.
func (c *cluster) close() {
	out, err := exec.Command("bin/bulkhead", c.place("down", "--purge")...).CombinedOutput()
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: cannot take the cluster down: %v\n%s", err, out)
	}
	if c.up != nil {
		c.up.Wait()
	}
	os.RemoveAll(c.dir)
}

func freePorts(n int) (ports []string, err error) {
	for range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer ln.Close()
		ports = append(ports, strconv.Itoa(ln.Addr().(*net.TCPAddr).Port))
	}
	return ports, nil
}
