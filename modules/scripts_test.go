package modules

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/docker/client"

	"bulkhead/cluster"
	"bulkhead/images/node"
	"bulkhead/modules/modulestest"
)

// testDocker is this machine's engine.
func testDocker(t *testing.T) *client.Client {
	t.Helper()
	docker, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err == nil {
		_, err = docker.Ping(t.Context())
	}
	if err != nil {
		t.Skipf("needs a Docker Engine: %v", err)
	}
	t.Cleanup(func() { docker.Close() })
	return docker
}

const gyp = `{"targets": [{"target_name": "answer", "sources": ["answer.c"]}]}`

const answer = `#include <node_api.h>
static napi_value init(napi_env env, napi_value exports) {
  napi_value v;
  napi_create_int32(env, 42, &v);
  napi_set_named_property(env, exports, "answer", v);
  return exports;
}
NAPI_MODULE(answer, init)
`

// probe is an install script that tries what it must not be able to.
const probe = `const fs = require('fs'), net = require('net')
const found = { uid: process.getuid(), env: Object.keys(process.env).filter(k => /token|auth|secret/i.test(k)), links: fs.readdirSync('/sys/class/net') }
for (const dir of ['/', '/usr', '/node', '/npm', '/in']) { try { fs.writeFileSync(dir + '/x', ''); found.wrote = dir } catch {} }
fs.linkSync('index.js', 'linked.js')
try { fs.symlinkSync('/etc/passwd', 'passwd') } catch {}
fs.writeFileSync('found.json', JSON.stringify(found))
`

func TestInstallScriptsRunWithoutNetworkAndNativeCodeLoads(t *testing.T) {
	docker, m := testDocker(t), testMaker(t)
	m.Docker = docker
	r := modulestest.New(t)
	r.Publish("native", "1.0.0", map[string]any{"gypfile": true, "main": "build/Release/answer.node", "scripts": map[string]string{"install": "node-gyp rebuild"}},
		map[string]string{"binding.gyp": gyp, "answer.c": answer})
	r.Publish("probe", "1.0.0", map[string]any{"scripts": map[string]string{"postinstall": "node probe.js"}}, map[string]string{"probe.js": probe})
	r.Publish("fails", "1.0.0", map[string]any{"scripts": map[string]string{"install": "echo the compiler is sad >&2; exit 3"}}, nil)
	runs := cluster.Allow{Allow: []string{"^1"}, Scripts: true}
	l := List{Packages: map[string]cluster.Allow{"native": runs, "probe": runs, "fails": runs}}
	got, log, err := build1(t, m, l, map[string]string{"native": "^1", "probe": "^1"})
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	files := contents(t, m, got.name)
	if found := files["node_modules/probe/found.json"]; found != `{"uid":399999,"env":[],"links":["lo"]}` {
		t.Errorf("an install script found %s", found)
	}
	if files["node_modules/probe/linked.js"] != files["node_modules/probe/index.js"] {
		t.Error("a file's second name is lost")
	}
	for name := range files {
		if strings.Contains(name, "obj.target") || strings.HasSuffix(name, "/passwd") {
			t.Errorf("the archive has %s", name)
		}
	}
	if out := inImage(t, files, `require("/modules/node_modules/native").answer`); out != "42" {
		t.Errorf("in the image, native code answers %s", out)
	}
	_, log, err = build1(t, m, l, map[string]string{"fails": "^1"})
	if err == nil || !strings.Contains(err.Error(), "the install script of fails@1.0.0 failed (exit code 3)") || !strings.Contains(log.String(), "the compiler is sad") {
		t.Errorf("a script that fails: %v\n%s", err, log)
	}
}

// TestRealPackages builds what people use from the registry that npm is set up for:
// plain and scoped ones, two versions of one, one that is only an ES module, one
// with peers, one with a binary in it, and one that has to be compiled.
func TestRealPackages(t *testing.T) {
	docker, m := testDocker(t), testMaker(t)
	m.Docker = docker
	want := map[string]string{
		"express": "^4.18", "lodash": "^4.17", "lodash@4.17.20": "4.17.20", "@sindresorhus/slugify": "^2", "react-dom": "^18", "react": "^18", "@node-rs/argon2": "^2", "bcrypt": "^5",
	}
	l := List{Packages: map[string]cluster.Allow{}}
	for name, text := range want {
		bare, _ := cluster.SplitModule(name)
		l.Packages[bare] = cluster.Allow{Allow: append(l.Packages[bare].Allow, text), Scripts: bare == "bcrypt"}
	}
	got, log, err := build1(t, m, l, want)
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	const use = `(() => { const r = n => require("/modules/node_modules/" + n), b = r("bcrypt"), a = r("@node-rs/argon2")
return [typeof r("express"), r("lodash").VERSION > "4.17.20", r("lodash--4.17.20").VERSION, r("@sindresorhus/slugify").default("Old Town"),
r("react-dom/server").renderToString(r("react").createElement("b")), b.compareSync("x", b.hashSync("x", 4)), a.verifySync(a.hashSync("x"), "x")].join(" ") })()`
	if out := inImage(t, contents(t, m, got.name), use); out != "function true 4.17.20 old-town <b></b> true true" {
		t.Errorf("in the image they say %s", out)
	}
}

// inImage evaluates an expression in the image that tenants' code runs in, with a
// set at /modules.
func inImage(t *testing.T, files map[string]string, expression string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		p := filepath.Join(dir, name)
		if strings.HasSuffix(name, "/") {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	image := testImage(t)
	var said tail
	run := exec.Command("docker", "run", "--rm", "--network=none", "--read-only", "--user=65534:65534", "-v", dir+":/modules:ro", "--entrypoint=/usr/bin/node", image,
		"--permission", "--allow-fs-read=/modules", "--allow-addons", "-e", "console.log("+expression+")")
	run.Stderr = &said
	out, err := run.Output()
	if err != nil {
		t.Fatalf("cannot run the image: %v\n%s", err, &said)
	}
	return strings.TrimSpace(string(out))
}

// testImage is the runtime's image, built here.
func testImage(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cell := filepath.Join(dir, "cell")
	build := exec.Command("go", "build", "-trimpath", "-o", cell, "bulkhead/cmd/bulkhead-cell")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("cannot build the cell: %v\n%s", err, out)
	}
	var said tail
	img, err := node.Build(context.Background(), node.Options{Cell: cell, Cache: testCache(t), Out: filepath.Join(dir, "image.tar")}, &said)
	if err == nil {
		err = node.Load(context.Background(), testDocker(t), img.Tar)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, &said)
	}
	return img.ID
}
