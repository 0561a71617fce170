package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// peer is a running target that is not ours.
type peer struct {
	target
	pid   int
	close func()
}

// bareSource does in plain node:http what the functions of models.go do.
const bareSource = `'use strict';
const http = require('node:http'), qs = require('node:querystring');
const large = Buffer.alloc(1 << 20, 'x');
http.createServer((req, res) => {
  const i = req.url.indexOf('?');
  const path = i < 0 ? req.url : req.url.slice(0, i);
  if (path === '/echo') {
    res.writeHead(200, { 'content-type': 'application/octet-stream' });
    return req.pipe(res);
  }
  if (path === '/down') {
    res.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': large.length });
    return res.end(large);
  }
  const json = (value) => {
    const body = JSON.stringify(value);
    res.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) });
    res.end(body);
  };
  if (path === '/up') {
    let bytes = 0;
    req.on('data', (chunk) => { bytes += chunk.length; }).on('end', () => json({ bytes }));
    return;
  }
  const query = i < 0 ? {} : qs.parse(req.url.slice(i + 1));
  json({ hello: query.name || 'x' });
}).listen(Number(process.argv[2]), '127.0.0.1');
`

// bareSetup is where bare node:http's source is, and how Docker is told to run
// it: in a container of the same image and limits as an instance's, on the
// host's network, which is the fastest that a container can be reached.
type bareSetup struct {
	dir, file, name, port string
	image                 string
}

func newBare(image string) (bareSetup, error) {
	dir, err := os.MkdirTemp("/run", "bulkhead-bench-bare-")
	if err != nil {
		return bareSetup{}, err
	}
	ports, err := freePorts(1)
	if err != nil {
		return bareSetup{}, err
	}
	b := bareSetup{dir: dir, file: filepath.Join(dir, "bare.js"), name: filepath.Base(dir), port: ports[0], image: image}
	return b, errors.Join(os.WriteFile(b.file, []byte(bareSource), 0o644), os.Chmod(dir, 0o755))
}

func (b bareSetup) target() target {
	return target{name: "bare node:http", url: "http://127.0.0.1:" + b.port + "/"}
}

// docker is what follows "docker run" or "docker create".
func (b bareSetup) docker() []string {
	return []string{"--name", b.name, "--network", "host",
		"--memory", "256m", "--memory-swap", "256m", "--cpus", "2", "--pids-limit", "64", "--user", "400999:400999", "--read-only",
		"--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--volume", b.file + ":/bare.js:ro",
		"--entrypoint", "/usr/bin/node", b.image, "/bare.js", b.port}
}

func (b bareSetup) remove() {
	exec.Command("docker", "rm", "--force", b.name).Run()
	os.RemoveAll(b.dir)
}

func startBare(ctx context.Context, image string) (*peer, error) {
	b, err := newBare(image)
	if err != nil {
		return nil, err
	}
	out, err := exec.CommandContext(ctx, "docker", append([]string{"run", "--detach"}, b.docker()...)...).CombinedOutput()
	if err != nil {
		b.remove()
		return nil, fmt.Errorf("cannot start bare node:http: %w\n%s", err, out)
	}
	p := &peer{target: b.target(), close: b.remove}
	if p.pid, err = containerPID(ctx, b.name); err == nil {
		_, err = p.until(ctx, time.Now(), helloX)
	}
	if err != nil {
		b.remove()
		return nil, err
	}
	p.hops = serverHop(p.pid)
	return p, nil
}

func serverHop(pid int) map[string]func() ticks {
	return map[string]func() ticks{"server": func() ticks { return processTicks(pid) }}
}

const workerdConfig = `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "main", worker = (
    compatibilityDate = "2025-01-01",
    modules = [(name = "worker", esModule =
      "export default { fetch(request) { const name = new URL(request.url).searchParams.get('name') || 'x'; return new Response(JSON.stringify({ hello: name }), { headers: { 'content-type': 'application/json' } }); } }")],
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
	p := &peer{target{name: "workerd " + workerdVersion(binaries[0]), url: "http://127.0.0.1:" + ports[0] + "/", hops: serverHop(cmd.Process.Pid)}, cmd.Process.Pid, end}
	if _, err := p.until(ctx, time.Now(), helloX); err != nil {
		end()
		return nil, fmt.Errorf("%w\n%s", err, said.Bytes())
	}
	return p, nil
}

func workerdVersion(binary string) string {
	out, _ := exec.Command(binary, "--version").Output()
	_, version, _ := bytes.Cut(bytes.TrimSpace(out), []byte(" "))
	return string(version)
}
