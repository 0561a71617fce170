package cell

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/client"

	"bulkhead/images/node"
	"bulkhead/internal/seccomp"
)

// startContainer runs the real image the way an agent does: no network, no
// capabilities, its filter of system calls, nothing writable but /tmp. It skips without Docker.
func startContainer(t *testing.T, extra ...string) *testCell {
	t.Helper()
	docker, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err == nil {
		_, err = docker.Ping(t.Context())
	}
	if err != nil {
		if os.Getenv("BULKHEAD_REQUIRE_DOCKER") == "1" {
			t.Fatalf("BULKHEAD_REQUIRE_DOCKER=1, but Docker does not answer: %v", err)
		}
		t.Skipf("Docker does not answer, so no container can be tried: %v", err)
	}
	defer docker.Close()
	img := testImage(t, docker)
	c := &testCell{output: make(chan string, 1000), lines: make(chan map[string]any, 1000), events: make(chan Event, 16), verdicts: make(chan Event, 16), reply: map[int64]chan Reply{}}
	if c.dir, err = os.MkdirTemp("", "cell"); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(c.dir, 400999, 400999); err != nil {
		t.Skipf("only root can give the cell's directory to its user: %v", err)
	}
	filter := filepath.Join(t.TempDir(), "seccomp.json")
	if err := os.WriteFile(filter, []byte(seccomp.Profile()), 0o600); err != nil {
		t.Fatal(err)
	}
	name := "bulkhead-test-" + filepath.Base(c.dir)
	args := append([]string{"run", "--rm", "--name", name, "--user=400999:400999", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--security-opt=seccomp=" + filter,
		"--read-only", "--memory=128m", "--memory-swap=128m", "--cpus=1", "--pids-limit=64", "--network=none",
		"--tmpfs=/tmp:size=64m,noexec,nosuid,nodev", "--volume=" + c.dir + ":/run/cell"}, append(extra, img.ID)...)
	c.cmd = exec.Command("docker", args...)
	c.cmd.Stderr = os.Stderr
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		exec.Command("docker", "rm", "--force", name).Run()
		c.cmd.Wait()
		os.RemoveAll(c.dir)
	})
	go c.readLog(out)
	c.dial(t)
	return c
}

var loaded struct {
	sync.Mutex
	image node.Image
}

// testImage builds the image and loads it into Docker, once per test run.
func testImage(t *testing.T, docker node.Loader) node.Image {
	t.Helper()
	loaded.Lock()
	defer loaded.Unlock()
	if loaded.image.ID != "" {
		return loaded.image
	}
	bin := filepath.Join(t.TempDir(), "cell")
	if err := buildCell(bin, false); err != nil { // static: the race detector is not
		t.Fatal(err)
	}
	img, err := node.Build(t.Context(), node.Options{Cell: bin, Cache: filepath.Dir(nodeBinary(t)), Out: filepath.Join(t.TempDir(), "image.tar")}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Load(t.Context(), docker, img.Tar); err != nil {
		t.Fatal(err)
	}
	loaded.image = img
	return img
}

// attack is code that tries what hostile code would, and tells how it went.
const attack = `
const fs = require('fs'), net = require('net'), cp = require('child_process');
const attempt = (f) => { try { return f() ?? 'done'; } catch (e) { return e.code || e.message; } };
module.exports = async (ctx) => {
  const r = {};
  for (const s of ['SIGKILL', 'SIGSTOP', 'SIGTERM', 'SIGQUIT', 'SIGSEGV', 'SIGABRT', 'SIGUSR1', 'SIGHUP']) if (s !== 'SIGTERM') r[s] = attempt(() => process.kill(1, s) && 'sent');
  for (const f of ['environ', 'maps', 'mem', 'fd', 'root']) r['/proc/1/' + f] = attempt(() => fs.readFileSync('/proc/1/' + f) && 'read');
  r.spawn = attempt(() => cp.spawnSync('/cell') && 'spawned');
  r.write = attempt(() => fs.writeFileSync('/usr/bin/x', '') ?? 'written');
  r.passwd = attempt(() => fs.readFileSync('/etc/passwd', 'latin1').length > 0 ? 'read' : '');
  r.tmp = attempt(() => { fs.writeFileSync('/tmp/x', 'y'); return fs.readFileSync('/tmp/x', 'latin1'); });
  r.control = await new Promise((go) => { const s = net.connect('/run/cell/control.sock'); s.on('error', (e) => go(e.code)); s.on('close', () => go('closed')); s.on('data', (d) => go(String(d))); s.on('connect', () => s.write('{"id":1,"op":"status"}\n')); });
  r.uid = process.getuid();
  r.date = new Date(0).toLocaleString('en-GB', { timeZone: 'Europe/Berlin' });
  return r;
};`

// In the container that tenants get, a function works, and what hostile code
// tries against the cell comes to nothing: it serves on afterwards.
func TestHardenedContainer(t *testing.T) {
	c := startContainer(t)
	r := c.mustServe(t, Request{Function: "attack", Version: "v1", File: "f.js", Code: attack})
	answer := c.get(t, r.Socket, "/")
	var got map[string]any
	if err := json.Unmarshal([]byte(answer[strings.Index(answer, "{"):]), &got); err != nil {
		t.Fatalf("%v: %q", err, answer)
	}
	for k, want := range map[string]any{
		"/proc/1/environ": "ERR_ACCESS_DENIED", "/proc/1/maps": "ERR_ACCESS_DENIED", "/proc/1/mem": "ERR_ACCESS_DENIED",
		"spawn": "ERR_ACCESS_DENIED", "write": "ERR_ACCESS_DENIED", "passwd": "read", "tmp": "y",
		"uid": 400999.0, "date": "01/01/1970, 01:00:00",
	} {
		if got[k] != want {
			t.Errorf("%s: %v, want %v", k, got[k], want)
		}
	}
	if s := got["control"]; s != "closed" && s != "EPIPE" && s != "ECONNRESET" {
		t.Errorf("code could ask the cell's control socket: %v", s)
	}
	other := c.mustServe(t, Request{Function: "hello", Version: "v1", File: "f.js", Code: hello})
	if a := c.get(t, other.Socket, "/?name=still"); !strings.HasSuffix(a, `{"hello":"still"}`) {
		t.Errorf("after the attack the cell serves %q", a)
	}
	c.waitLog(t, func(m map[string]any) bool {
		return m["level"] == "platform" && strings.Contains(m["message"].(string), "from inside the container was refused")
	})
}

// In the hardened container, without any network but the loopback, the cell
// breaks into a loop, and reads whose turn it is where it can't.
func TestLoopsInContainer(t *testing.T) {
	c := startContainer(t)
	for _, l := range loops {
		switch l.name {
		case "a loop", "an async function's loop", "Atomics.wait", "pbkdf2Sync":
			t.Run(l.name, func(t *testing.T) { c.tryLoop(t, l) })
		}
	}
}

// When the container's memory is full, the kernel ends the function, not the
// cell, and the inquest says so.
func TestContainerOutOfMemory(t *testing.T) {
	c := startContainer(t)
	r := c.mustServe(t, Request{Function: "hog", Version: "v1", File: "f.js", Code: `const hog = []; module.exports = (cb) => { for (;;) hog.push(Buffer.alloc(1 << 20, 1)); }`})
	c.tryGet(r.Socket, "/")
	if e := c.nextEvent(t); !e.Exit.OOM || e.Exit.Reason != "the container ran out of memory" || e.Exit.Signal != "SIGKILL" {
		t.Errorf("the exit is %+v", e.Exit)
	}
	c.mustServe(t, Request{Function: "hello", Version: "v1", File: "f.js", Code: hello})
}

// With CAP_SETUID, CAP_SETGID and CAP_KILL every process gets a user of its own.
func TestContainerWithUsersOfTheirOwn(t *testing.T) {
	c := startContainer(t, "--user=0:0", "--cap-add=SETUID", "--cap-add=SETGID", "--cap-add=KILL", "--cap-add=DAC_OVERRIDE")
	uid := `module.exports = (cb) => cb(null, process.getuid())`
	a := c.mustServe(t, Request{Function: "a", Version: "v1", File: "f.js", Code: uid})
	b := c.mustServe(t, Request{Function: "b", Version: "v1", File: "f.js", Code: uid})
	userA, userB := lastLine(c.get(t, a.Socket, "/")), lastLine(c.get(t, b.Socket, "/"))
	if !strings.HasPrefix(userA, "10000") || !strings.HasPrefix(userB, "10000") || userA == userB {
		t.Errorf("the processes run as %s and %s", userA, userB)
	}
}

// lastLine is the body of an answer of at most seven bytes.
func lastLine(payload string) string { return payload[max(0, len(payload)-7):] }

// How long a function takes from the question to the first answer, in a
// hardened container. It fails only when something is very wrong.
func TestFirstAnswerIsQuick(t *testing.T) {
	c := startContainer(t)
	var total, serve []time.Duration
	for i := range 10 {
		waitFor(t, func() bool { return c.ask(t, Request{Op: "status"}).Spares == 1 })
		start := time.Now()
		r := c.mustServe(t, Request{Function: "hello", Version: string(rune('a' + i)), File: "f.js", Code: hello})
		serve = append(serve, time.Since(start))
		c.get(t, r.Socket, "/?name=first")
		total = append(total, time.Since(start))
		c.ask(t, Request{Op: "stop", Function: "hello", Version: string(rune('a' + i))})
		c.nextEvent(t)
	}
	t.Logf("serve answered in %v (median), the function in %v (median, worst %v)", median(serve), median(total), worst(total))
	if median(total) > time.Second {
		t.Errorf("the first answer takes %v", median(total))
	}
}
