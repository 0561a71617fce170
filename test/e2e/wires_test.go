package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// wires sends every kind of request from a client to a function and back.
func wires(t *testing.T, m *machine) {
	c := m.tenant("wires", `"limits": {"rate": 0, "body": "2MiB"}, "resources": {"memory": "512MiB", "cpu": 1, "pids": 512}`)
	for file, code := range map[string]string{
		"echo.js":    `module.exports = (ctx, req, res) => { res.setHeader('x-method', req.method); if (req.headers['content-length']) res.setHeader('content-length', req.headers['content-length']); req.pipe(res); };`,
		"upper.ts":   `export default { async fetch(request: Request): Promise<Response> { const upper = new TransformStream<Uint8Array, Uint8Array>({ transform: (chunk, to) => to.enqueue(new TextEncoder().encode(new TextDecoder().decode(chunk).toUpperCase())) }); return new Response(request.body!.pipeThrough(upper)); } };`,
		"esm.mjs":    `import { createHash } from 'node:crypto'; export default async (ctx) => ({ hash: createHash('sha256').update(ctx.body_raw).digest('hex') });`,
		"trailer.js": `module.exports = (ctx, req, res) => { res.setHeader('trailer', 'x-sum'); let n = 0; req.on('data', (d) => { n += d.length; res.write(d); }).on('end', () => { res.addTrailers({ 'x-sum': String(n), 'x-came': String(req.trailers['x-sent']) }); res.end(); }); };`,
		"head.js":    `module.exports = (ctx, req, res) => { res.setHeader('content-length', '5'); res.setHeader('x-method', req.method); res.end('hello'); };`,
		"gone.js":    `let gone = 0, waiting = []; const tell = () => { if (gone) for (const r of waiting.splice(0)) r.end('gone'); }; module.exports = (ctx, req, res) => { if (req.url === '/ask') { waiting.push(res); return tell(); } res.on('close', () => { gone++; tell(); }); res.write('begun'); };`,
	} {
		if err := c.deployFile(strings.Split(file, ".")[0], file, code); err != nil {
			t.Fatal(err)
		}
	}
	for _, wire := range []struct {
		name string
		do   func(*testing.T, *tenant)
	}{
		{"a megabyte of any bytes comes back as it went", megabyte},
		{"fetch streams both ways at once, in TypeScript", bothWays},
		{"an ES module imports from Node", esModule},
		{"trailers go both ways", trailers},
		{"a body that is held back is asked for, or not", held},
		{"HEAD has the headers and no body", headOnly},
		{"a megabyte of headers is refused", hugeHeaders},
		{"code hears that its client has gone", clientGone},
		{"a WebSocket of ws speaks with a client of another make", webSocket},
	} {
		t.Run(wire.name, func(t *testing.T) { wire.do(t, c) })
	}
}

func megabyte(t *testing.T, c *tenant) {
	body := make([]byte, 1<<20)
	rand.Read(body)
	g := c.do("PUT", "echo", string(body))
	if g.status != 200 || g.body != string(body) || g.header.Get("x-method") != "PUT" {
		t.Fatalf("got %d with %d bytes, %v", g.status, len(g.body), g.err)
	}
}

func bothWays(t *testing.T, c *tenant) {
	body, write := io.Pipe()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	go io.WriteString(write, "round 0\n")
	res, err := callers.Do(c.request(ctx, "POST", "upper", body))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	read := bufio.NewReader(res.Body)
	for i := range 5 { // nothing more is sent before the answer to it is here
		line, err := read.ReadString('\n')
		if want := fmt.Sprintf("ROUND %d\n", i); line != want {
			t.Fatalf("got %q, %v; want %q", line, err, want)
		}
		fmt.Fprintf(write, "round %d\n", i+1)
	}
	write.Close()
	if rest, err := io.ReadAll(read); string(rest) != "ROUND 5\n" || err != nil {
		t.Fatalf("in the end %q, %v", rest, err)
	}
}

func esModule(t *testing.T, c *tenant) {
	if g := c.do("POST", "esm", "abc"); g.status != 200 || !strings.Contains(g.body, "ba7816bf8f01cfea") {
		t.Fatal(g)
	}
}

func trailers(t *testing.T, c *tenant) {
	req := c.request(context.Background(), "POST", "trailer", struct{ io.Reader }{strings.NewReader("twelve bytes")})
	req.Trailer = http.Header{"X-Sent": {"by the client"}}
	res, err := callers.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || string(body) != "twelve bytes" || res.Trailer.Get("x-sum") != "12" || res.Trailer.Get("x-came") != "by the client" {
		t.Fatalf("got %q, %v, trailers %v", body, err, res.Trailer)
	}
}

func held(t *testing.T, c *tenant) {
	for _, tt := range []struct {
		size, status int
		asked        bool
	}{{1000, 200, true}, {3 << 20, 413, false}} {
		asked := false
		ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{Got100Continue: func() { asked = true }})
		req := c.request(ctx, "POST", "echo", bytes.NewReader(make([]byte, tt.size)))
		req.Header.Set("expect", "100-continue")
		client := &http.Client{Transport: &http.Transport{ExpectContinueTimeout: 10 * time.Second, DisableKeepAlives: true}}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != tt.status || asked != tt.asked {
			t.Errorf("%d bytes: got %d, asked for the body: %v", tt.size, res.StatusCode, asked)
		}
	}
}

func headOnly(t *testing.T, c *tenant) {
	g := c.do("HEAD", "head", "")
	if g.status != 200 || g.body != "" || g.header.Get("content-length") != "5" || g.header.Get("x-method") != "HEAD" {
		t.Fatalf("got %v %v", g, g.header)
	}
}

func hugeHeaders(t *testing.T, c *tenant) {
	conn, err := c.dial()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go io.WriteString(conn, c.head("GET", "head", "x-huge: "+strings.Repeat("x", 1<<20)))
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 431 {
		t.Fatalf("got %d", res.StatusCode)
	}
}

func clientGone(t *testing.T, c *tenant) {
	ctx, leave := context.WithCancel(context.Background())
	defer leave()
	res, err := callers.Do(c.request(ctx, "GET", "gone", nil))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(res.Body, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	leave()
	res.Body.Close()
	if g := c.get("gone/ask"); !g.ok("gone") {
		t.Fatal(g)
	}
}

// cached finds what tests of this machine keep; "": nothing.
func cached(t *testing.T, pattern string) string {
	home, _ := os.UserHomeDir()
	for _, dir := range []string{os.Getenv("BULKHEAD_CACHE"), filepath.Join(root(t), ".cache", "image"), filepath.Join(home, ".cache", "bulkhead", "image")} {
		if found, _ := filepath.Glob(filepath.Join(dir, pattern)); dir != "" && len(found) > 0 {
			return found[len(found)-1]
		}
	}
	return ""
}

// webSocket has the package ws answer in a function, and Node's own client ask.
func webSocket(t *testing.T, c *tenant) {
	ws, node := cached(t, "packages-*/node_modules/ws"), cached(t, "node-*[0-9]")
	if ws == "" || node == "" {
		t.Skip("the npm packages of the Node tests are not here: scripts/test gets them")
	}
	code := bundle(t, ws) + `
const server = new (load('./websocket-server'))({ noServer: true });
module.exports = (ctx, req, res) => {
  if (!req.headers.upgrade) return res.end('this speaks WebSocket');
  server.handleUpgrade(req, req.socket, Buffer.alloc(0), (ws) => {
    ws.on('message', (data, binary) => ws.send(binary ? data : 'you said ' + data, { binary }));
    ws.on('close', (code) => console.log('closed with', code));
  });
};`
	if err := c.deploy("socket", code); err != nil {
		t.Fatal(err)
	}
	url := strings.Replace(c.m.proxy, "http:", "ws:", 1) + "/wires/socket?key=" + c.token
	client := `const ws = new WebSocket(` + fmt.Sprintf("%q", url) + `), got = [];
ws.binaryType = 'arraybuffer';
ws.onopen = () => { ws.send('hello'); ws.send(new Uint8Array(300000).fill(7)); };
ws.onmessage = ({ data }) => {
  got.push(typeof data === 'string' ? data : data.byteLength + ' of ' + new Uint8Array(data)[299999]);
  if (got.length === 2) ws.close(1000, 'done');
};
ws.onerror = (e) => { console.log('error', e.message); };
ws.onclose = (e) => console.log(JSON.stringify([...got, e.code, e.wasClean]));`
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, node, "-e", client).CombinedOutput()
	if want := `["you said hello","300000 of 7",1000,true]`; strings.TrimSpace(string(out)) != want {
		t.Fatalf("the client says %s, %v; want %s", out, err, want)
	}
	if g := c.get("socket"); !g.ok("this speaks WebSocket") {
		t.Errorf("without an upgrade: %v", g)
	}
}

// bundle makes one file of a package's modules.
func bundle(t *testing.T, dir string) string {
	var b strings.Builder
	b.WriteString("const files = {\n")
	files, err := filepath.Glob(filepath.Join(dir, "lib", "*.js"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s has no modules: %v", dir, err)
	}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name, _ := json.Marshal("./" + strings.TrimSuffix(filepath.Base(file), ".js"))
		fmt.Fprintf(&b, "%s: (module, exports, require) => {\n%s\n},\n", name, source)
	}
	b.WriteString(`};
const loaded = {};
function load(name) {
  if (!(name in files)) return require(name);
  if (!(name in loaded)) { loaded[name] = { exports: {} }; files[name](loaded[name], loaded[name].exports, load); }
  return loaded[name].exports;
}
`)
	return b.String()
}
