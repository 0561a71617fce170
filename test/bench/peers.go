package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// peer is a running target that is not ours.
type peer struct {
	target
	close func()
}

const bareSource = `'use strict';
const http = require('node:http'), qs = require('node:querystring');
http.createServer((req, res) => {
  const i = req.url.indexOf('?');
  const query = i < 0 ? {} : qs.parse(req.url.slice(i + 1));
  const body = JSON.stringify({ hello: query.name || 'world' });
  res.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) });
  res.end(body);
}).listen(Number(process.argv[2]), '127.0.0.1');
`

// startBare runs node:http alone in a container of the same image and limits,
// on the host's network, which is the fastest that a container can be reached.
func startBare(ctx context.Context, image string) (*peer, error) {
	dir, err := os.MkdirTemp("/run", "bulkhead-bench-bare-")
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "bare.js")
	err = errors.Join(os.WriteFile(file, []byte(bareSource), 0o644), os.Chmod(dir, 0o755))
	if err != nil {
		return nil, err
	}
	const name = "bulkhead-bench-bare"
	remove := func() {
		exec.Command("docker", "rm", "--force", name).Run()
		os.RemoveAll(dir)
	}
	out, err := exec.CommandContext(ctx, "docker", "run", "--detach", "--name", name, "--network", "host",
		"--memory", "256m", "--memory-swap", "256m", "--cpus", "2", "--pids-limit", "64", "--user", "400999:400999", "--read-only",
		"--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--volume", file+":/bare.js:ro",
		"--entrypoint", "/usr/bin/node", image, "/bare.js", ports[0]).CombinedOutput()
	if err != nil {
		remove()
		return nil, fmt.Errorf("cannot start bare node:http: %w\n%s", err, out)
	}
	pid, err := containerPID(ctx, name)
	if err != nil {
		remove()
		return nil, err
	}
	t := target{name: "bare node:http", url: "http://127.0.0.1:" + ports[0] + "/?name=x", hops: serverHop(pid)}
	if err := check(ctx, t); err != nil {
		remove()
		return nil, err
	}
	return &peer{t, remove}, nil
}

func serverHop(pid int) map[string]func() int {
	return map[string]func() int{"server": func() int { return processTicks(pid) }}
}

const workerdConfig = `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "main", worker = (
    compatibilityDate = "2025-01-01",
    modules = [(name = "worker", esModule =
      "export default { fetch(request) { const name = new URL(request.url).searchParams.get('name') || 'world'; return new Response(JSON.stringify({ hello: name }), { headers: { 'content-type': 'application/json' } }); } }")],
  ))],
  sockets = [(name = "http", address = "127.0.0.1:%s", http = (), service = "main")],
);
`

// startWorkerd runs workerd as it comes from npm, where scripts/bench has put
// it. It has no compartment a tenant, and checks no token.
func startWorkerd(ctx context.Context) (*peer, error) {
	binaries, _ := filepath.Glob(".cache/workerd/node_modules/@cloudflare/workerd-linux-*/bin/workerd")
	if len(binaries) == 0 {
		return nil, errors.New("there is no workerd in .cache/workerd: scripts/bench puts it there")
	}
	dir, err := os.MkdirTemp("/run", "bulkhead-bench-workerd-")
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	config := filepath.Join(dir, "config.capnp")
	if err := os.WriteFile(config, fmt.Appendf(nil, workerdConfig, ports[0]), 0o600); err != nil {
		return nil, err
	}
	var said bytes.Buffer
	cmd := exec.Command(binaries[0], "serve", config)
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start workerd: %w", err)
	}
	end := func() {
		cmd.Process.Kill()
		cmd.Wait()
		os.RemoveAll(dir)
	}
	t := target{name: "workerd " + workerdVersion(binaries[0]), url: "http://127.0.0.1:" + ports[0] + "/?name=x", hops: serverHop(cmd.Process.Pid)}
	if err := check(ctx, t); err != nil {
		end()
		return nil, fmt.Errorf("%w\n%s", err, said.Bytes())
	}
	return &peer{t, end}, nil
}

func workerdVersion(binary string) string {
	out, _ := exec.Command(binary, "--version").Output()
	_, version, _ := bytes.Cut(bytes.TrimSpace(out), []byte(" "))
	return string(version)
}

// check waits for the right answer, and refuses another: what is measured must
// do the work.
func check(ctx context.Context, t target) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		status, body, err := get(ctx, t)
		switch {
		case err == nil && status == 200 && body == `{"hello":"x"}`:
			return nil
		case err == nil:
			return fmt.Errorf("%s answers %d %s", t.name, status, body)
		case ctx.Err() != nil:
			return fmt.Errorf("%s does not answer: %w", t.name, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func get(ctx context.Context, t target) (status int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, "GET", t.url, nil)
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Authorization", "Bearer "+t.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

func kib(n int) string { return strconv.FormatFloat(float64(n)/1024, 'f', 1, 64) + " MiB" }
